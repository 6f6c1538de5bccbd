"""Outputs of generation requests, by continuous batching behind a shared prefix.

The same replies as `generate.generate`, row by row: rows end by the same rules and draw from the same
seeds. What differs is the work: the tokens that all prompts begin with run once, a finished row leaves
its slot to the next one, and each reply comes as soon as its row ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.core.errors import first_line
from evalkit.core.records import Reply
from evalkit.core.sequences import shared_length
from evalkit.engines.hf.generate.plain import Writer, full_length, generate, settings
from evalkit.engines.hf.generate.prefix_attention import UnfitError
from evalkit.engines.hf.generate.sampling import draw, row_generator
from evalkit.engines.hf.generate.slots import Slots, rounded
from evalkit.engines.hf.generate.stop_criteria import RowEnd, StopCriteria
from evalkit.engines.hf.memory import is_oom
from evalkit.engines.hf.positions import steady_length
from evalkit.engines.hf.tokens import Encoded
from evalkit.engines.hf.windows import layer_windows, short_window

NO_LIMIT = 1 << 60
MISFITS = (UnfitError, RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError)
PROBE_PREFIX, PROBE_OWN, PROBE_NEW = 24, (1, 9, 4, 14, 6), 8
TOLERANCE_FLOAT32, TOLERANCE_HALF = 1e-3, 0.2
WORTH_TOKENS = 512
"""Prefix tokens that a family of prompts must save together to get a prefix of its own."""


@dataclass
class Row:
    """One request in its slot."""

    item: Encoded
    own: int
    """Tokens of its prompt behind the shared prefix."""
    end: RowEnd
    """Its new tokens, and whether they end it."""
    generator: torch.Generator | None
    seconds: float = 0.0
    """Its share of the wall time so far."""


def stream(
    model: Any,
    tokenizer: Any,
    items: Sequence[Encoded],
    stop_criteria: StopCriteria,
    tokens: int,
    rows: int,
    plain_rows: int,
    plain_tokens: int | None = None,
) -> Iterator[Reply]:
    """Replies to gen requests, each as soon as its row ends.

    At most `rows` rows run at a time, and their prefix and slots hold at most `tokens` tokens. The model
    must pass `stream_fits`. Rows beyond its window, and whatever does not fit in memory, go through
    `generate` with `plain_rows` and `plain_tokens` (None: `tokens`).
    """
    yield from (item.failed(item.error) for item in items if item.error)
    limit = length_limit(model)
    ready = [item for item in items if not item.error]
    left = [item for item in ready if full_length(item) > limit]
    for chat in (False, True):
        writer = Writer(model, tokenizer, stop_criteria, chat)
        chosen = [i for i in ready if bool(i.request.turns) == chat and full_length(i) <= limit]
        for family in families(chosen, rows):
            for wave in waves(family, tokens, rows):
                yield from _Run(writer, wave, tokens, rows).replies(left)
    yield from generate(model, tokenizer, left, stop_criteria, plain_tokens or tokens, plain_rows)


def families(items: Sequence[Encoded], rows: int) -> list[list[Encoded]]:
    """Items by the prefix they should share.

    One prompt that begins otherwise (left-truncated, another subset) must not cost the rest their
    prefix: where the prompts branch, a branch with enough prompts and enough further tokens in common
    goes by itself.
    """
    queue = sorted(items, key=lambda item: item.ids)
    if len(queue) < 2:
        return [queue] if queue else []
    shared = shared_length(queue[0].ids, queue[-1].ids)
    branches: list[list[Encoded]] = []
    for item in queue:
        if branches and branches[-1][0].ids[: shared + 1] == item.ids[: shared + 1]:
            branches[-1].append(item)
        else:
            branches.append([item])
    apart = [b for b in branches if len(b) < len(queue) and _saved(b, shared) >= WORTH_TOKENS and len(b) >= rows // 2]
    rest = [item for branch in branches if branch not in apart for item in branch]
    return [part for branch in apart for part in families(branch, rows)] + ([rest] if rest else [])


def _saved(branch: Sequence[Encoded], shared: int) -> int:
    """Prompt tokens that a sorted branch would not compute with a prefix of its own."""
    return (shared_length(branch[0].ids, branch[-1].ids) - shared) * (len(branch) - 1)


def waves(items: Sequence[Encoded], tokens: int, rows: int) -> list[list[Encoded]]:
    """The items, longest first, in parts that each get slots of one size.

    There is one part where `rows` slots for the longest item fit `tokens`; else items of half its
    length and less come later, in more and smaller slots.
    """
    out: list[list[Encoded]] = []
    shared = prefix_length(items)
    for item in sorted(items, key=full_length, reverse=True):
        longest = full_length(out[-1][0]) - shared if out else 0
        tight = shared + rows * longest > tokens and 2 * (full_length(item) - shared) <= longest
        if not out or tight:
            out.append([])
        out[-1].append(item)
    return out


def prefix_length(items: Sequence[Encoded]) -> int:
    """Tokens that all prompts begin with; each keeps at least one of its own."""
    prompts = [item.ids for item in items]
    return min(shared_length(min(prompts), max(prompts)), min(map(len, prompts)) - 1)


class _Run:
    """Items behind one prefix, in slots of one size."""

    def __init__(self, writer: Writer, items: Sequence[Encoded], tokens: int, rows: int) -> None:
        """`items` come longest first and are admitted in this order."""
        self._writer = writer
        self._waiting = list(reversed(items))
        self._prefix = prefix_length(items)
        self._capacity = rounded(full_length(items[0]) - self._prefix)
        self._count = max(1, min(rows, (tokens - self._prefix) // self._capacity, len(items)))
        self._rows: list[Row] = []
        self._prefix_share = 0.0
        self._ends = frozenset(writer.end_ids())

    def replies(self, left: list[Encoded]) -> Iterator[Reply]:
        """Replies in the order in which rows end; when memory runs out, the rest is added to `left`."""
        try:
            began = time.perf_counter()
            prefix = self._waiting[-1].ids[: self._prefix]
            slots = Slots(self._writer.model, prefix, self._count, self._capacity)
            self._prefix_share = (time.perf_counter() - began) / len(self._waiting)
            while self._waiting or self._rows:
                while self._waiting and len(self._rows) < self._count:
                    yield from self._admit(slots)
                if self._rows:
                    yield from self._advance(slots)
        except (RuntimeError, MemoryError) as error:
            if not is_oom(error):
                raise
            left += [row.item for row in self._rows] + self._waiting

    def _admit(self, slots: Slots) -> Iterator[Reply]:
        """Put the next waiting item into the next slot; its reply, where its first token already ends it."""
        item = self._waiting[-1]
        began = time.perf_counter()
        logits = slots.prefill(len(self._rows), item.ids[self._prefix :])
        end = RowEnd(self._writer.plan(item), self._writer.finders)
        row = Row(item, len(item.ids) - self._prefix, end, row_generator(item.request))
        ended = self._add(row, _choose(logits, [row])[0])
        row.seconds = self._prefix_share + time.perf_counter() - began
        self._waiting.pop()
        if ended:
            yield self._reply(row)
        else:
            self._rows.append(row)

    def _advance(self, slots: Slots) -> Iterator[Reply]:
        """One token for every row; finished rows leave, and the last row takes the slot of each."""
        began = time.perf_counter()
        lengths = [row.own + len(row.end.ids) - 1 for row in self._rows]
        logits = slots.decode([row.end.ids[-1] for row in self._rows], lengths)
        chosen = zip(self._rows, _choose(logits, self._rows), strict=True)
        finished = [i for i, (row, token) in enumerate(chosen) if self._add(row, token)]
        share = (time.perf_counter() - began) / len(self._rows)
        for row in self._rows:
            row.seconds += share
        # from the back, so that the last row, which fills a gap, is never a finished one
        for i in reversed(finished):
            row = self._rows[i]
            last = self._rows.pop()
            slots.clear(i, row.own + len(row.end.ids))
            if i < len(self._rows):
                self._rows[i] = last
                slots.move(len(self._rows), i, last.own + len(last.end.ids))
            yield self._reply(row)

    def _add(self, row: Row, token: int) -> bool:
        """Give a row its next token; whether that ends it."""
        return row.end.add(token) or token in self._ends

    def _reply(self, row: Row) -> Reply:
        return self._writer.reply(row.item, row.end.ids, row.end.length, row.seconds)


def _choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row from logits [rows, vocab]: the largest, or drawn by its own seed."""
    tokens: list[int] = logits.argmax(-1).tolist()
    for i, row in enumerate(rows):
        if row.generator is not None:
            tokens[i] = draw(logits[i], settings(row.item), row.generator)
    return tokens


def length_limit(model: Any) -> int:
    """Most tokens of prompt and output that slots can hold as the model itself would.

    Layers that attend in chunks do so up to the first chunk's end; some rotary tables change with the longest
    row. Sliding windows set no limit. Raises TypeError for layers that keep a state of another kind.
    """
    _, chunk = layer_windows(model.config)
    limits = [NO_LIMIT if chunk is None else chunk]
    steady = steady_length(model.config.get_text_config())
    if steady is not None:
        limits.append(steady - 1)  # tables grow when the last token in sight has this position
    return min(limits)


def stream_fits(model: Any) -> tuple[bool, str]:
    """Whether `stream` gives what plain forward passes give, tried on a tiny case; and why not.

    Rows of different lengths share a prefix, one leaves, another takes its slot and one moves; all
    logits are compared with those of whole rows without any cache, against the spread of the logits.
    A model with sliding windows does so once more with windows that are shorter than the rows.
    """
    try:
        limit = length_limit(model)
        if limit < PROBE_PREFIX + max(PROBE_OWN) + PROBE_NEW:
            return False, f"rows of more than {limit} tokens do not fit the model's positions or chunks"
        worst = _worst(model)
        if any(window is not None for window in layer_windows(model.config)[0]):
            with short_window(model.config.get_text_config()):
                worst = max(worst, _worst(model))
    except MISFITS as error:
        return False, f"{type(error).__name__}: {first_line(error)}"
    tolerance = TOLERANCE_FLOAT32 if model.dtype == torch.float32 else TOLERANCE_HALF
    if not worst <= tolerance:  # NaN, too
        return False, f"logits differ from those of whole rows by {worst:.2g} of their spread"
    return True, ""


def _worst(model: Any) -> float:
    """The largest difference of a logit from that of the whole row; NaN where one is none."""
    with torch.inference_mode():
        found = [_difference(model, row, logits) for row, logits in _probe(model)]
    return max(found, key=lambda x: (math.isnan(x), x))


def _probe(model: Any) -> list[tuple[list[int], list[torch.Tensor]]]:
    """Token ids of rows, and the logits [vocab] after each of their last tokens."""
    size = model.get_input_embeddings().num_embeddings
    prefix = [(5 + 7 * i) % size for i in range(PROBE_PREFIX)]
    rows = [[(11 * k + 3 * i + 2) % size for i in range(own)] for k, own in enumerate(PROBE_OWN)]
    slots = Slots(model, prefix, len(rows) - 1, max(PROBE_OWN) + PROBE_NEW)
    out: list[tuple[list[int], list[torch.Tensor]]] = [(prefix + own, []) for own in rows]
    active = list(range(len(rows) - 1))
    for slot in active:
        out[slot][1].append(slots.prefill(slot, rows[slot])[0])
    for step in range(PROBE_NEW - 1):
        if step == 3:  # the first row leaves, the last takes its place, a new one comes behind
            slots.clear(0, PROBE_OWN[0] + step)
            slots.move(len(active) - 1, 0, PROBE_OWN[-2] + step)
            active = [active[-1], *active[1:-1], len(rows) - 1]
            out[-1][1].append(slots.prefill(len(active) - 1, rows[-1])[0])
        lengths = [len(out[i][0]) - len(prefix) for i in active]
        for i in active:
            out[i][0].append(int(out[i][1][-1].argmax()))
        logits = slots.decode([out[i][0][-1] for i in active], lengths)
        for i, row in zip(active, logits, strict=True):
            out[i][1].append(row)
    return out


def _difference(model: Any, ids: Sequence[int], logits: Sequence[torch.Tensor]) -> float:
    """The largest difference from the logits of the whole row, in standard deviations of these."""
    whole = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0, -len(logits) :]
    return float((torch.stack(list(logits)).float() - whole.float()).abs().max() / whole.float().std())
