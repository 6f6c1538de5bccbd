"""What a generation batch needs for each row by itself: drawing tokens, and ending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from evalkit.core.digest import digest
from evalkit.core.records import GenSettings, Request

TAIL_MARGIN = 8


@dataclass(frozen=True)
class RowPlan:
    """How one row of a batch ends."""

    limit: int
    """Most new tokens."""
    stops: tuple[str, ...]
    """Texts that end the row, looked for in the generated part only."""
    keep_special: bool
    """Whether `stops` are looked for in the text with special tokens."""


def row_generator(request: Request) -> torch.Generator | None:
    """A row's own source of randomness, or None for greedy; equal for equal requests."""
    gen = request.gen
    if gen is None or gen.temperature <= 0:
        return None
    seed = int(digest([gen.seed, request.repeat, request.key])[:15], 16)
    return torch.Generator().manual_seed(seed)


class RowSampler(LogitsProcessor):
    """Draws the next token of sampled rows and leaves greedy rows as they are.

    It runs under greedy decoding: a drawn token gets the only finite score. So each row has its
    own settings and random numbers, and what it draws does not depend on the other rows.
    """

    def __init__(self, settings: Sequence[GenSettings], generators: Sequence[torch.Generator | None]) -> None:
        self._rows = list(zip(settings, generators, strict=True))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocab] with one token left in the sampled rows."""
        scores = scores.clone()
        for i, (settings, generator) in enumerate(self._rows):
            if generator is not None:
                token = draw(scores[i], settings, generator)
                scores[i] = float("-inf")
                scores[i, token] = 0.0
        return scores


def draw(scores: torch.Tensor, settings: GenSettings, generator: torch.Generator) -> int:
    """A token from logits [vocab]: temperature, then top-k, then top-p, then one uniform number."""
    values, order = (scores.float().cpu() / settings.temperature).sort(descending=True, stable=True)
    if settings.top_k > 0:
        values, order = values[: settings.top_k], order[: settings.top_k]
    probs = values.softmax(-1).double()
    total = probs.cumsum(-1)
    if settings.top_p < 1:
        # the token that crosses top_p stays
        keep = int((total - probs < settings.top_p).sum())
        total = total[: max(1, keep)]
    uniform = torch.rand((), dtype=torch.float64, generator=generator) * total[-1]
    place = int(torch.searchsorted(total, uniform, right=True))
    return int(order[min(place, len(total) - 1)])


class RowStops(StoppingCriteria):
    """Ends each row at its own limit or as soon as one of its texts appears."""

    def __init__(self, tokenizer: Any, plans: Sequence[RowPlan], prompt_width: int) -> None:
        self._tokenizer = tokenizer
        self._plans = plans
        self._width = prompt_width
        # a character takes at most 4 byte tokens
        self._tails = [4 * max(map(len, p.stops), default=0) + TAIL_MARGIN for p in plans]
        self.lengths: list[int | None] = [None] * len(plans)
        """New tokens at the moment a row ended here; None for rows that did not."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Bool [rows]: which rows are done; `input_ids` is [rows, prompt and new tokens]."""
        new = input_ids[:, self._width :].tolist()
        for i, plan in enumerate(self._plans):
            if self.lengths[i] is None and (len(new[i]) >= plan.limit or self._found(i, new[i])):
                self.lengths[i] = len(new[i])
        done = [length is not None for length in self.lengths]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    def _found(self, row: int, ids: Sequence[int]) -> bool:
        """Looks at the last tokens only; a hit is confirmed on the whole, since the decoding of a
        tail can differ at its start."""
        plan = self._plans[row]
        return bool(plan.stops) and all(
            any(stop in self._decode(part, plan.keep_special) for stop in plan.stops)
            for part in (ids[-self._tails[row] :], ids)
        )

    def _decode(self, ids: Sequence[int], keep_special: bool) -> str:
        return decode(self._tokenizer, ids, keep_special)


def decode(tokenizer: Any, ids: Sequence[int], keep_special: bool) -> str:
    """Text of the ids, spaces as they are."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False))
