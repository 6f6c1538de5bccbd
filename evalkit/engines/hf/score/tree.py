"""ppl and ll by prefix sharing: every token of a run's trie is read once, or nearly so.

Depth first: a shared prefix that is long enough is read alone and cached; the branches below it are
packed, many to a row, up to a number of tokens. Short shared pieces before a branch are read
again with it, because a pass of a few tokens costs as much as one of many.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.records import Reply
from evalkit.engines.hf.memory import free_memory, is_oom
from evalkit.engines.hf.score.cache import PathCache
from evalkit.engines.hf.score.forward import Attention, row_losses
from evalkit.engines.hf.score.plain import NO_MEMORY, reply
from evalkit.engines.hf.score.row import Row, branches, chain
from evalkit.engines.hf.score.trie import Trie, build_trie
from evalkit.engines.hf.tokens import Encoded, group_equal

LEAST_WIDTH = 8
"""A row is not halved below this many tokens when memory runs out."""


@dataclass(frozen=True)
class TreeLimits:
    """Sizes of the passes."""

    width: int
    """Most tokens of a pass."""
    stem: int = 64
    """A shared piece of at least so many tokens gets a pass of its own."""


@dataclass(frozen=True)
class Frame:
    """A cached prefix and what is still to do below it."""

    depth: int
    """Its positions."""
    pending: deque[int]
    """Nodes of the trie right behind it, or behind short pieces that are not cached."""


def score_tree(model: Any, items: Sequence[Encoded], attention: Attention, limits: TreeLimits) -> Iterator[Reply]:
    """Replies to ppl and ll requests, those of a pass as soon as it is done.

    The numbers are those of `score.score`; equal texts are computed once, so they tie exactly.
    """
    yield from (item.failed(item.error) for item in items if item.error)
    groups = group_equal(items)
    if groups:
        yield from _Scorer(model, groups, attention, limits).replies()


def make_trie(groups: Sequence[Sequence[Encoded]]) -> Trie:
    """The trie of the groups' token ids."""
    needs = [min(len(item.ids) - item.scored for item in group) for group in groups]
    return build_trie([group[0].ids for group in groups], needs)


class _Scorer:
    """The walk through one trie."""

    def __init__(self, model: Any, groups: list[list[Encoded]], attention: Attention, limits: TreeLimits) -> None:
        self._model = model
        self._groups = groups
        self._attention = attention
        self._width, self._stem = max(1, limits.width), limits.stem
        self._trie = make_trie(groups)
        self._losses = [math.nan] * self._trie.tokens
        self._done: set[int] = set()
        self._frames = [Frame(0, deque(self._trie.roots))]
        layers = model.config.get_text_config().num_hidden_layers
        longest = max(len(ids) for ids in self._trie.sequences)
        self._cache = PathCache(layers, longest + self._width)
        self._spent = 0.0

    def replies(self) -> Iterator[Reply]:
        """All replies; an item whose passes did not fit into memory gets an error."""
        while self._frames:
            frame = self._frames[-1]
            if not frame.pending:
                self._frames.pop()
                self._cache.length = self._frames[-1].depth if self._frames else 0
                continue
            index = frame.pending[0]
            node = self._trie.nodes[index]
            if node.start - frame.depth + self._trie.size(index) <= self._width:
                yield from self._answer(self._branches(frame))
            elif not node.children or node.stop - frame.depth >= min(self._stem, self._width):
                frame.pending.popleft()
                yield from self._answer(self._descend(frame.depth, index))
            else:
                frame.pending.popleft()
                frame.pending.extendleft(reversed(node.children))
        for index, node in enumerate(self._trie.nodes):
            if index not in self._done and node.end >= 0:
                yield from (item.failed(NO_MEMORY) for item in self._groups[node.end])

    def _branches(self, frame: Frame) -> list[int]:
        """Score as many pending subtrees as one pass takes; the nodes that this completed."""
        chosen, units = self._pick(frame)
        row = branches(self._trie, chosen, self._done)
        if self._pass(row):
            for _ in range(units):
                frame.pending.popleft()
            return chosen
        if len(row.ids) <= LEAST_WIDTH:
            frame.pending.popleft()
        return []

    def _pick(self, frame: Frame) -> tuple[list[int], int]:
        """Nodes of the next pass in preorder, and how many pending subtrees they are."""
        trie, chosen, room, units = self._trie, set[int](), self._width, 0
        for index in frame.pending:
            parent = trie.nodes[index].parent
            lead = [k for k in trie.path(parent, frame.depth) if k not in chosen] if parent >= 0 else []
            room -= trie.size(index) + sum(trie.nodes[k].forwarded for k in lead)
            if room < 0:
                break
            chosen.update(lead, range(index, trie.nodes[index].last))
            units += 1
        return sorted(chosen), units

    def _descend(self, depth: int, index: int) -> list[int]:
        """Cache the way from `depth` to the end of a node; the nodes that this completed.

        Its children are the next to do. Without memory for it, nothing below it is done.
        """
        trie, node = self._trie, self._trie.nodes[index]
        path = trie.path(index, depth)
        begin, stop = depth, node.start + node.forwarded
        while begin < stop:
            end = min(begin + self._width, stop)
            if self._pass(chain(trie, path, begin, end, self._done)):
                begin = self._cache.length = end
            elif end - begin <= LEAST_WIDTH:
                self._cache.length = depth
                return []
        self._frames.append(Frame(stop, deque(node.children)))
        return path

    def _pass(self, row: Row) -> bool:
        """Run one row and note its losses; False, and half the width from now on, without memory."""
        began = time.perf_counter()
        losses = self._attempt(row)
        self._spent += time.perf_counter() - began
        if losses is None:
            self._width = max(1, min(self._width, len(row.ids)) // 2)
            free_memory()
            return False
        for slot, loss in zip(row.slots, losses, strict=True):
            self._losses[slot] = loss
        return True

    def _attempt(self, row: Row) -> list[float] | None:
        """The losses, or None when memory ran out; returning drops the traceback that holds the tensors."""
        if not row.ids:
            return []
        try:
            return row_losses(self._model, row, self._cache, self._attention)
        except (RuntimeError, MemoryError) as error:
            if not is_oom(error):
                raise
            return None

    def _answer(self, nodes: Sequence[int]) -> list[Reply]:
        """Replies to the items that end at nodes which are now complete."""
        fresh = [k for k in nodes if k not in self._done]
        self._done.update(fresh)
        ready = [(k, item) for k in fresh if (end := self._trie.nodes[k].end) >= 0 for item in self._groups[end]]
        seconds = self._spent / max(1, len(ready))
        self._spent = 0.0 if ready else self._spent
        return [reply(item, self._sum(k, item.scored), seconds) for k, item in ready]

    def _sum(self, index: int, scored: int) -> float:
        """float64 sum of the last `scored` losses on the path to a node."""
        parts: list[float] = []
        while scored > 0:
            node = self._trie.nodes[index]
            count = min(scored, node.stop - node.start)
            stop = node.base + node.stop - node.start
            parts.append(math.fsum(self._losses[stop - count : stop]))
            scored, index = scored - count, node.parent
        return math.fsum(parts)
