"""Where a text is cut."""

from __future__ import annotations

from collections.abc import Sequence


def first_cut(text: str, marks: Sequence[str]) -> int:
    """Where the first of any of the marks begins; -1 when there is none."""
    return min((at for at in (text.find(mark) for mark in marks if mark) if at >= 0), default=-1)


def before(text: str, marks: Sequence[str]) -> str:
    """The text in front of the first mark; all of it when there is none."""
    at = first_cut(text, marks)
    return text if at < 0 else text[:at]
