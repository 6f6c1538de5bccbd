"""What ends an output: end tokens, texts, and limits; and the watch over each row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria

TAIL_MARGIN = 8
MOST_BYTES = 4
"""Bytes, and so tokens, that a character takes at most."""
UNCLEAR = "\ufffd"
"""What a part of a character is shown as."""


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


class TokenTexts:
    """What each token adds to a text, as far as that depends on the token alone."""

    def __init__(self, tokenizer: Any, keep_special: bool) -> None:
        """A tokenizer that is no fast one may join its texts by other rules; nothing is known of its tokens."""
        self.tokenizer = tokenizer
        self.keep_special = keep_special
        self._known: dict[int, str | None] = {}
        anchors = tokenizer("a", add_special_tokens=False)["input_ids"] if getattr(tokenizer, "is_fast", False) else []
        self._anchor: list[int] = list(anchors[-1:])
        self._before = self.decode(self._anchor)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids."""
        return decode(self.tokenizer, ids, self.keep_special)

    def added(self, token: int) -> str | None:
        """The text that a token adds behind others; None where that is not known.

        It is not for a token that holds a part of a character: the next one changes what it shows.
        """
        if token not in self._known:
            text = self.decode([*self._anchor, token])
            known = self._anchor and text.startswith(self._before) and UNCLEAR not in text
            self._known[token] = text[len(self._before) :] if known else None
        return self._known[token]


class StopFinder:
    """Looks for texts in what a row has generated, one token at a time.

    A text can only come to its end inside what the new token adds, and few tokens end any of them: those
    alone are looked at closer, first in the decoding of the last tokens, whose start can differ, and then
    in that of the whole.
    """

    def __init__(self, texts: TokenTexts, stops: Sequence[str]) -> None:
        self._texts = texts
        self._stops = tuple(stops)
        self._ending: dict[int, bool] = {}
        # a stop that holds the sign for a part of a character comes and goes with the tokens around it
        self._shows_parts = any(UNCLEAR in stop for stop in self._stops)
        self._tail = MOST_BYTES * max(map(len, self._stops), default=0) + TAIL_MARGIN

    def ends(self, ids: Sequence[int]) -> bool:
        """Whether the text of the ids holds a stop, where that of all but the last holds none."""
        if not self._stops:
            return False
        if not self._shows_parts and not (self._can_end(ids[-1]) and self._in(self._last_text(ids))):
            return False
        return self._in(self._texts.decode(ids))

    def _can_end(self, token: int) -> bool:
        if token not in self._ending:
            added = self._texts.added(token)
            self._ending[token] = added is None or any(_can_end(stop, added) for stop in self._stops)
        return self._ending[token]

    def _last_text(self, ids: Sequence[int]) -> str:
        """Text of the last tokens, as many of them as a stop can take; those without a text do not count.

        It begins with a whole character: some decoders show nothing of a run of bytes that begins with a part
        of one.
        """
        count, place = 0, len(ids)
        while place > 0 and count < self._tail:
            place -= 1
            count += self._texts.added(ids[place]) != ""
        for start in range(place, max(0, place - MOST_BYTES), -1):
            text = self._texts.decode(ids[start:])
            if not text.startswith(UNCLEAR):
                return text
        return self._texts.decode(ids)

    def _in(self, text: str) -> bool:
        return any(stop in text for stop in self._stops)


def _can_end(stop: str, added: str) -> bool:
    """Whether a text can have an occurrence of `stop` that ends in the last `added` characters and not before."""
    if stop in added:
        return True
    return any(added.startswith(stop[len(stop) - size :]) for size in range(1, min(len(stop), len(added)) + 1))


class StopFinders:
    """The finders of one tokenizer: rows with equal texts share one, and all share what is known of tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[bool, TokenTexts] = {}
        self._finders: dict[tuple[bool, tuple[str, ...]], StopFinder] = {}

    def of(self, plan: RowPlan) -> StopFinder:
        """The finder of a row."""
        key = (plan.keep_special, plan.stops)
        if key not in self._finders:
            if plan.keep_special not in self._texts:
                self._texts[plan.keep_special] = TokenTexts(self._tokenizer, plan.keep_special)
            self._finders[key] = StopFinder(self._texts[plan.keep_special], plan.stops)
        return self._finders[key]


class RowEnd:
    """One row's new tokens, watched for its limit and its texts."""

    def __init__(self, plan: RowPlan, finders: StopFinders) -> None:
        self._limit = plan.limit
        self._finder = finders.of(plan) if plan.stops else None
        self.ids: list[int] = []
        """New tokens so far."""
        self.length: int | None = None
        """New tokens at the moment the row ended here; None while it has not."""

    def add(self, token: int) -> bool:
        """Take a new token; whether the row is at its end."""
        self.ids.append(token)
        if self.length is None and (
            len(self.ids) >= self._limit or (self._finder is not None and self._finder.ends(self.ids))
        ):
            self.length = len(self.ids)
        return self.length is not None


class RowStops(StoppingCriteria):
    """Ends each row of a padded batch at its own limit or as soon as one of its texts appears."""

    def __init__(self, finders: StopFinders, plans: Sequence[RowPlan], prompt_width: int) -> None:
        self._rows = [RowEnd(plan, finders) for plan in plans]
        self._read = prompt_width

    @property
    def lengths(self) -> list[int | None]:
        """New tokens at the moment each row ended here; None for rows that did not."""
        return [row.length for row in self._rows]

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Bool [rows]: which rows are done; `input_ids` is [rows, prompt and new tokens]."""
        new = input_ids[:, self._read :].tolist()
        self._read = input_ids.shape[1]
        for row, tokens in zip(self._rows, new, strict=True):
            for token in tokens:
                row.add(token)
        return torch.tensor([row.length is not None for row in self._rows], device=input_ids.device)


def decode(tokenizer: Any, ids: Sequence[int], keep_special: bool) -> str:
    """Text of the ids, spaces as they are."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=not keep_special, clean_up_tokenization_spaces=False))
