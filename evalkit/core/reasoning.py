"""Splits a reasoning model's reply into reasoning trace and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evalkit.core.sequences import before

Thinking = Literal["none", "finished", "unfinished"]
NONE: Thinking = "none"
FINISHED: Thinking = "finished"
UNFINISHED: Thinking = "unfinished"


@dataclass(frozen=True)
class Reasoning:
    """How a model marks the thinking in its outputs; it is kept in replies and cut off before extraction."""

    open: str = "<think>"
    """Begins the thinking; empty where the chat template has written it at the end of the prompt."""
    close: str = "</think>"
    """Ends it."""
    budget: int = 0
    """Output tokens granted for thinking, on top of the benchmark's limit."""


@dataclass(frozen=True)
class Said:
    """A reply without its thinking."""

    answer: str
    """What follows the thinking; empty where the reply ends inside it."""
    thinking: Thinking


def split_thinking(text: str, marks: Reasoning, stops: Sequence[str] = ()) -> Said:
    """The answer behind the last closing mark, cut at the first of `stops`.

    Of a reply that opens its thinking and does not close it only what stands in front counts: words of
    the thinking are no answer. Where the prompt opens it (`open` empty), every reply without closing
    mark is such a one. White space behind the thinking goes, so that a stop of a newline leaves an answer.
    """
    _, closed, rest = text.rpartition(marks.close)
    if closed:
        return Said(before(rest.lstrip(), stops), FINISHED)
    if not marks.open:
        return Said("", UNFINISHED)
    front, opened, _ = text.partition(marks.open)
    if opened:
        return Said(before(front.lstrip(), stops), UNFINISHED)
    return Said(before(text, stops), NONE)
