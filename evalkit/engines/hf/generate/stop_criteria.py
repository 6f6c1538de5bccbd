"""What ends an output: end tokens, texts, and limits; and the watch over each row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria

TAIL_MARGIN = 8


@dataclass(frozen=True)
class StopCriteria:
    """What ends an output besides the stop strings of its request."""

    base_ids: tuple[int, ...]
    """Token ids that end a base model's output."""
    chat_ids: tuple[int, ...]
    """Token ids that end an assistant's turn."""
    chat_strings: tuple[str, ...]
    """Texts at which a chat output is cut."""
    pad: int
    """Fills up rows; any id will do, since padding is masked in front and cut off behind."""


@dataclass(frozen=True)
class RowPlan:
    """How one row of a batch ends."""

    limit: int
    """Most new tokens."""
    stops: tuple[str, ...]
    """Texts that end the row, looked for in the generated part only."""
    keep_special: bool
    """Whether `stops` are looked for in the text with special tokens."""


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
