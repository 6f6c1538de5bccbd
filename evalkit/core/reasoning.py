"""Splits a reply into reasoning trace and answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from evalkit.core.sequences import before

Thinking = Literal["none", "finished", "unfinished"]
NONE: Thinking = "none"
FINISHED: Thinking = "finished"
UNFINISHED: Thinking = "unfinished"


@dataclass(frozen=True)
class Reasoning:
    """How a model marks the reasoning trace in its outputs; it is kept in replies and removed before extraction."""

    open: str = "<think>"
    """Begins the trace; empty where the chat template has written it at the end of the prompt."""
    close: str = "</think>"
    """Ends it."""
    budget: int = 0
    """Output tokens granted for reasoning, on top of the benchmark's limit."""
    split: bool = True
    """Whether the trace is removed; `false` leaves replies as they are."""


USUAL = Reasoning()
KNOWN = (
    USUAL,
    Reasoning("<thinking>", "</thinking>"),
    Reasoning("<thought>", "</thought>"),
    Reasoning("<reasoning>", "</reasoning>"),
    Reasoning("<seed:think>", "</seed:think>"),
    Reasoning("[THINK]", "[/THINK]"),
    Reasoning("◁think▷", "◁/think▷"),
    Reasoning("<|begin_of_thought|>", "<|end_of_thought|>"),
    Reasoning("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""Marks that are looked for in every reply: those of DeepSeek-R1, Qwen3 and most others, then rarer ones."""


@dataclass(frozen=True)
class SplitOutput:
    """A reply without its reasoning trace."""

    answer: str
    """What follows the trace; empty where the reply ends inside it."""
    thinking: Thinking
    trace: str = field(default="", compare=False)
    """The trace with its marks, as it stands in the reply."""


def split_reasoning(text: str, marks: Reasoning | None, stops: Sequence[str] = ()) -> SplitOutput:
    """The answer behind the last closing mark, cut at the first of `stops`, which engines do for models without traces.

    Of a reply that opens its trace and does not close it only what stands before it counts: words of
    the trace are no answer. Where the prompt opens it (`open` empty), every reply without closing
    mark is such a one. White space behind the trace goes, so that a stop of a newline leaves an answer.
    A trace with other marks than the declared ones, or of a model that declares none, is looked for by `KNOWN`.
    """
    chosen = marks if marks and (_holds(text, marks) or not marks.split) else detected(text) or marks
    if not chosen:
        return SplitOutput(text, NONE)
    trace, answer, thinking = _parts(text, chosen) if chosen.split else ("", text, NONE)
    return SplitOutput(before(answer if thinking == NONE else answer.lstrip(), stops), thinking, trace)


def detected(text: str) -> Reasoning | None:
    """The marks of the reasoning trace in a reply; None where there is none.

    `<think>` counts anywhere, the rarer marks only where the reply begins with one. `</think>` without `<think>`
    is a trace that the prompt has opened.
    """
    if _holds(text, USUAL):
        return USUAL
    front = text.lstrip()
    return next((marks for marks in KNOWN if front.startswith(marks.open)), None)


def opened_by(prompt: str, marks: Reasoning | None = None) -> str:
    """The opening mark that a prompt ends with, so that replies begin inside a trace; empty where there is none."""
    end = prompt.rstrip()
    known = [m.open for m in (*([marks] if marks else []), *KNOWN) if m.open]
    return next((mark for mark in known if end.endswith(mark)), "")


def undeclared(texts: Iterable[str]) -> Reasoning | None:
    """The marks of a model that declares none, where its replies begin inside a trace.

    None of them has the opening mark then and more than half have the closing one, so that a reply without
    any has ended inside its trace.
    """
    replies = list(texts)
    closed = sum(USUAL.close in text for text in replies)
    if 2 * closed > len(replies) and not any(USUAL.open in text for text in replies):
        return replace(USUAL, open="")
    return None


def stopped(text: str, stops: Sequence[str], marks: Reasoning | None = None) -> str:
    """The reply cut at the first of `stops` behind its reasoning trace, which is kept."""
    chosen = marks if marks and _holds(text, marks) else detected(text)
    if not chosen or (marks and not marks.split):
        return before(text, stops)
    trace, answer, thinking = _parts(text, chosen)
    if thinking == UNFINISHED:
        return text
    space = answer[: len(answer) - len(answer.lstrip())]
    return trace + space + before(answer.lstrip(), stops)


def with_trace(trace: str, answer: str, cut_off: bool) -> str:
    """A reply whose trace came apart from its answer, as one text; `cut_off` by the output limit."""
    if cut_off and not answer.strip():
        return f"{USUAL.open}\n{trace}"
    return f"{USUAL.open}\n{trace}\n{USUAL.close}\n{answer}"


def _holds(text: str, marks: Reasoning) -> bool:
    return marks.close in text or bool(marks.open and marks.open in text)


def _parts(text: str, marks: Reasoning) -> tuple[str, str, Thinking]:
    """(the trace with its marks, the answer, how the trace ended)."""
    head, closed, rest = text.rpartition(marks.close)
    if closed:
        return head + closed, rest, FINISHED
    if not marks.open:
        return text, "", UNFINISHED
    front, opened, trace = text.partition(marks.open)
    return (opened + trace, front, UNFINISHED) if opened else ("", text, NONE)
