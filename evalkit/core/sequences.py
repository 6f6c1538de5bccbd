"""Where texts are cut, and how much of several sequences is shared at their beginnings; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any


def first_cut(text: str, marks: Sequence[str]) -> int:
    """Where the first of any of the marks begins; -1 when there is none."""
    return min((at for at in (text.find(mark) for mark in marks if mark) if at >= 0), default=-1)


def before(text: str, marks: Sequence[str]) -> str:
    """The text before the first mark; all of it when there is none."""
    at = first_cut(text, marks)
    return text if at < 0 else text[:at]


def shared_length(first: Sequence[Any], second: Sequence[Any], known: int = 0) -> int:
    """Length of the longest common beginning, by halving; `known` of it is known already."""
    low, high = known, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def unique_length(sequences: Iterable[str] | Iterable[tuple[Any, ...]]) -> int:
    """Elements of all sequences when every shared beginning counts once: the size of their trie."""
    ordered: list[Any] = sorted(sequences)
    total = sum(map(len, ordered))
    return total - sum(shared_length(a, b) for a, b in pairwise(ordered))
