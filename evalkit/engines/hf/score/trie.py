"""Token sequences → a trie with merged chains, in preorder; pure, no model.

Shared prefixes are found on token ids, never on text: two texts with a common beginning may be
tokenised differently there.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.core.sequences import shared_length

NOBODY = -1
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """A run of tokens that the same sequences share."""

    parent: int
    """Index of the node in front; -1 for a first one."""
    start: int
    """Position of its first token in the sequences."""
    stop: int
    """Position after its last token."""
    sequence: int
    """A sequence that holds it."""
    end: int
    """The sequence that ends with its last token; -1 when none does."""
    need: int
    """Least position whose loss is asked for by a sequence through this node."""
    base: int
    """Number of trie tokens before it, in preorder; the place of its losses."""
    last: int
    """Index after its last descendant: its subtree is `nodes[index:last]`."""
    children: tuple[int, ...]

    @property
    def forwarded(self) -> int:
        """Tokens that a model must read; the last token of a leaf only has to be predicted."""
        return self.stop - self.start - (not self.children)


@dataclass(frozen=True)
class Trie:
    """Distinct sequences as a forest in preorder."""

    sequences: tuple[Ids, ...]
    nodes: tuple[Node, ...]
    roots: tuple[int, ...]
    sizes: tuple[int, ...]
    """sizes[k]: forwarded tokens of `nodes[:k]`; subtree sizes are differences."""

    @property
    def tokens(self) -> int:
        """Tokens of all nodes."""
        return self.nodes[-1].base + self.nodes[-1].stop - self.nodes[-1].start if self.nodes else 0

    def size(self, index: int) -> int:
        """Forwarded tokens of a node and its descendants."""
        return self.sizes[self.nodes[index].last] - self.sizes[index]

    def path(self, index: int, depth: int = 0) -> list[int]:
        """Nodes from position `depth`, where one begins, down to this one."""
        out: list[int] = []
        while index != NOBODY and self.nodes[index].start >= depth:
            out.append(index)
            index = self.nodes[index].parent
        return out[::-1]


@dataclass(frozen=True)
class _Range:
    """Sorted sequences first..last (inclusive) that agree from `depth` to `stop`: a node in the making."""

    first: int
    last: int
    depth: int
    stop: int
    parent: int


def build_trie(sequences: Sequence[Ids], needs: Sequence[int]) -> Trie:
    """The trie of distinct, non-empty sequences; `needs[i]` is the first position i asks about.

    Raises ValueError for an empty sequence or a repeated one.
    """
    # any order will do that brings equal beginnings together; bytes compare fastest
    keys = [array("I", ids).tobytes() for ids in sequences]
    if not all(keys) or len(set(keys)) < len(keys):
        raise ValueError("sequences of a trie must be distinct and not empty")
    order = sorted(range(len(sequences)), key=keys.__getitem__)
    split = _Splitter(tuple(sequences[i] for i in order))
    return _finish(tuple(sequences), split.nodes(), needs, order)


@dataclass(frozen=True)
class _Splitter:
    """Splits sorted sequences into ranges, each a node."""

    sequences: tuple[Ids, ...]

    def nodes(self) -> list[_Range]:
        """All ranges in preorder; a loop, since texts can be nested deeper than Python recurses."""
        out: list[_Range] = []
        todo = self._parts(0, len(self.sequences) - 1, 0, NOBODY)
        while todo:
            part = todo.pop()
            out.append(part)
            # the shortest sequence comes first, and it alone can end here
            first = part.first + (len(self.sequences[part.first]) == part.stop)
            todo += self._parts(first, part.last, part.stop, len(out) - 1)
        return out

    def _parts(self, first: int, last: int, depth: int, parent: int) -> list[_Range]:
        """One range for each token at position `depth`, the last one first."""
        out: list[_Range] = []
        begin = first
        for i in range(first, last + 1):
            if i == last or self.sequences[i + 1][depth] != self.sequences[i][depth]:
                out.append(_Range(begin, i, depth, self._stop(begin, i, depth), parent))
                begin = i + 1
        return out[::-1]

    def _stop(self, first: int, last: int, depth: int) -> int:
        """Where sorted sequences part: there where the first and the last of them do."""
        return shared_length(self.sequences[first], self.sequences[last], depth)


def _finish(sequences: tuple[Ids, ...], parts: Sequence[_Range], needs: Sequence[int], order: Sequence[int]) -> Trie:
    """Nodes out of ranges in preorder: children, ends, needs and sizes."""
    children: list[list[int]] = [[] for _ in parts]
    need, last = [0] * len(parts), list(range(1, len(parts) + 1))
    ends = [order[p.first] if len(sequences[order[p.first]]) == p.stop else NOBODY for p in parts]
    for k in range(len(parts) - 1, -1, -1):
        own = [needs[ends[k]]] if ends[k] != NOBODY else []
        need[k] = min([*own, *(need[c] for c in children[k])])
        children[k].reverse()
        if parts[k].parent != NOBODY:
            children[parts[k].parent].append(k)
            last[parts[k].parent] = max(last[parts[k].parent], last[k])
    nodes: list[Node] = []
    sizes, base = [0], 0
    for k, part in enumerate(parts):
        sequence = order[part.first]
        nodes.append(
            Node(part.parent, part.depth, part.stop, sequence, ends[k], need[k], base, last[k], tuple(children[k]))
        )
        base += part.stop - part.depth
        sizes.append(sizes[-1] + nodes[-1].forwarded)
    roots = tuple(k for k, part in enumerate(parts) if part.parent == NOBODY)
    return Trie(sequences, tuple(nodes), roots, tuple(sizes))
