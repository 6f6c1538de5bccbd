"""How much of several sequences is shared at their beginnings; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any


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
