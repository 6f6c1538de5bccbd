"""Small statistics; pure Python, as the numbers of a table are few."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, summed exactly so that the order of samples does not matter."""
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean with the sample variance (n - 1); None below two values."""
    if len(values) < 2:
        return None
    middle = mean(values)
    variance = math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """Weighted mean."""
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


def standard_error_of_mean(errors: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """Standard error of a weighted mean of independent means; None when one is unknown."""
    known = [e for e in errors if e is not None]
    if len(known) < len(errors) or not known:
        return None
    total = math.fsum(weights)
    return math.sqrt(math.fsum((w / total * e) ** 2 for w, e in zip(weights, known, strict=True)))
