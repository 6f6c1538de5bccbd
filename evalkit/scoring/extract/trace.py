"""How an answer was extracted: the result of each step, and which part of the output became the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.records import NamedCall
from evalkit.scoring.extract.base import Context, extract

LONGEST = 20_000
"""Characters of an output in which a part that occurs several times is looked for."""
MOST = 8
"""Occurrences that are tried, the last first."""
Span = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One step of an extraction."""

    call: NamedCall
    result: Any


@dataclass(frozen=True)
class Trace:
    """An extraction, step by step."""

    steps: tuple[Step, ...]
    span: Span | None
    """Where the answer, or else the result of the last step that left text standing, is in the output; None where no
    step's result is a part of the output, or is all of it."""
    fault: str = ""
    """Why a step failed; the steps before it are there."""


def trace(text: str, calls: Sequence[NamedCall], context: Context) -> Trace:
    """Follow an extraction; arguments that are templates must be filled already."""
    steps: list[Step] = []
    result: Any = text
    for call in calls:
        try:
            result = extract(result, (call,), context)
        except Exception as error:  # shown where the steps are; scoring has counted it
            return Trace(tuple(steps), None, f"{call.name}: {error}")
        steps.append(Step(call, result))
    for count in range(len(steps), 0, -1):
        part = _as_text(steps[count - 1].result)
        if part == text:
            break
        if part and (span := _located(text, part, calls[:count], context)):
            return Trace(tuple(steps), span)
    return Trace(tuple(steps), None)


def _as_text(result: Any) -> str:
    """A result as it may stand in the output; empty where it has no such form."""
    if isinstance(result, (list, tuple)) and len(result) == 1:
        result = result[0]
    return result if isinstance(result, str) else ""


def _located(text: str, part: str, calls: Sequence[NamedCall], context: Context) -> Span | None:
    """The occurrence of `part` that decides what the steps give: changing it changes the result."""
    first = text.find(part)
    if first < 0:
        return None
    if text.find(part, first + 1) < 0:
        return first, first + len(part)
    if len(text) > LONGEST or (other := part.translate(OTHER)) == part:
        return None
    at = len(text)
    for _ in range(MOST):
        at = text.rfind(part, 0, at + len(part) - 1)
        if at < 0:
            return None
        try:
            changed = text[:at] + other + text[at + len(part) :]
            if _as_text(extract(changed, calls, context)) != part:
                return at, at + len(part)
        except Exception:  # a changed text that cannot be read shows nothing
            return None
    return None


def _others() -> dict[int, int]:
    """Another digit for each digit, another letter for each letter."""
    digits = {ord(str(d)): ord(str(d % 9 + 1)) for d in range(10)}
    return digits | {start + n: start + (n ^ 1) for start in (ord("A"), ord("a")) for n in range(26)}


OTHER = _others()
