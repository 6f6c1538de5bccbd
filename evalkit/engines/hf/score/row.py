"""One forward pass over a part of a trie, as lists of numbers; pure, no model.

All branches of a pass lie behind each other in one row. In preorder the subtree of a token is one
interval, so the token is visible exactly to the tokens from itself to the end of its interval: an
attention mask needs two comparisons, and nothing is padded or repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from evalkit.engines.hf.score.trie import Node, Trie


@dataclass(frozen=True)
class Row:
    """Tokens that are read together behind a cached prefix, and what is asked about them."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    """Position of each token in its own text."""
    ends: list[int] = field(default_factory=list)
    """ends[i]: token i is visible to the tokens i..ends[i]-1 of the row."""
    heads: list[int] = field(default_factory=list)
    """Token whose logits predict the k-th asked token."""
    targets: list[int] = field(default_factory=list)
    """Id of the k-th asked token."""
    slots: list[int] = field(default_factory=list)
    """Place of the k-th loss among the trie's tokens."""

    def ask(self, trie: Trie, node: Node, position: int, head: int) -> None:
        """Ask for the loss of a node's token, unless nobody needs it (or it is the first of a text)."""
        if position >= max(1, node.need):
            self.heads.append(head)
            self.targets.append(trie.sequences[node.sequence][position])
            self.slots.append(node.base + position - node.start)


def branches(trie: Trie, chosen: Sequence[int], done: Collection[int]) -> Row:
    """The row of some nodes in preorder, closed under parents down to the cached prefix.

    Losses are asked for nodes that are not `done`; the first token of a node right behind the
    cached prefix is predicted there, by `chain`.
    """
    row = Row()
    tails: dict[int, int] = {}
    """Node → its last token in the row."""
    open_nodes: list[int] = []
    for index in chosen:
        node = trie.nodes[index]
        while open_nodes and trie.nodes[open_nodes[-1]].last <= index:
            _close(row, tails, trie, open_nodes.pop())
        offset = len(row.ids)
        if index not in done:
            before = tails.get(node.parent)
            if before is not None:
                row.ask(trie, node, node.start, before)
            for position in range(node.start + 1, node.stop):
                row.ask(trie, node, position, offset + position - node.start - 1)
        stop = node.start + node.forwarded
        row.ids.extend(trie.sequences[node.sequence][node.start : stop])
        row.positions.extend(range(node.start, stop))
        row.ends.extend([0] * node.forwarded)
        tails[index] = len(row.ids) - 1
        open_nodes.append(index)
    while open_nodes:
        _close(row, tails, trie, open_nodes.pop())
    return row


def _close(row: Row, tails: dict[int, int], trie: Trie, index: int) -> None:
    """Nothing more comes below a node: its tokens are visible up to here."""
    last, count = tails[index], trie.nodes[index].forwarded
    row.ends[last + 1 - count : last + 1] = [len(row.ids)] * count


def chain(trie: Trie, path: Sequence[int], begin: int, stop: int, done: Collection[int]) -> Row:
    """The row of positions begin..stop-1 on the path of nodes, to be cached.

    Where the row ends with the path, it also predicts the first tokens of the branches below.
    """
    leaf = trie.nodes[path[-1]]
    row = Row(
        list(trie.sequences[leaf.sequence][begin:stop]), list(range(begin, stop)), [stop - begin] * (stop - begin)
    )
    for index in path:
        node = trie.nodes[index]
        if index not in done:
            # the token at `begin` is predicted by the pass in front, the one at `stop` by this one
            for position in range(max(begin + 1, node.start), min(stop + 1, node.stop)):
                row.ask(trie, node, position, position - begin - 1)
    if stop == leaf.stop:
        for index in leaf.children:
            row.ask(trie, trie.nodes[index], stop, stop - begin - 1)
    return row
