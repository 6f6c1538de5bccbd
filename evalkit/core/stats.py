"""Small statistics; pure Python, as the numbers of a table are few."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
"""Standard normal deviate of a two-sided 95 % interval."""


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


def proportion_error(share: float, n: int) -> float:
    """Standard error of a share (0 to 1) that is measured on n samples, by Agresti and Coull (1998).

    Two successes and two failures are added, so that a share of 0 or 1 has an error too. For values
    between 0 and 1 that are not only 0 and 1 it is an upper bound, but for the four added samples.
    """
    adjusted = (share * n + 2) / (n + 4)
    return math.sqrt(adjusted * (1 - adjusted) / (n + 4))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test (1947): is a disagreement as likely one way as the other?

    `only_a` and `only_b` count the samples that one side alone has right; 1 without disagreements.
    """
    n = only_a + only_b
    term = total = 1
    for k in range(min(only_a, only_b)):
        term = term * (n - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / 2**n)


def paired_proportions(only_a: int, only_b: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of share B minus share A over n pairs, by Bonett and Price (2012): a Wald interval with
    one sample added to each kind of disagreement, so that none has no width."""
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = z * math.sqrt(max(0.0, a + b - (b - a) ** 2) / (n + 2))
    return max(-1.0, b - a - half), min(1.0, b - a + half)


def paired_permutation_p(strata: Sequence[Sequence[float]], weights: Sequence[float], draws: int = 99_999) -> float:
    """Two-sided p-value of no difference, for a weighted mean of strata's mean paired differences.

    The test swaps the two sides of each pair at random (sign flips, within strata, seed 0), so that it tests the
    very statistic that is shown, however unlike the strata are (Good, 2005, chapter 3). p is at least 1 / (draws + 1);
    a tenth of the draws are made where more than 1,000 pairs differ by amounts of their own.
    """
    import numpy

    if len({abs(d) for differences in strata for d in differences}) > 1000:
        draws //= 10
    rng = numpy.random.default_rng(0)
    total = math.fsum(weights)
    simulated = numpy.zeros(draws)
    observed = 0.0
    for differences, weight in zip(strata, weights, strict=True):
        scale = weight / total / len(differences)
        observed += scale * math.fsum(differences)
        sizes: dict[float, int] = {}
        for d in differences:
            if d:
                sizes[abs(d)] = sizes.get(abs(d), 0) + 1
        for size, count in sizes.items():  # flips of equal size: their sum is a shifted binomial
            simulated += scale * size * (2.0 * rng.binomial(count, 0.5, draws) - count)
    extreme = int((numpy.abs(simulated) >= abs(observed) * (1 - 1e-12)).sum())
    return (extreme + 1) / (draws + 1)


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 1, the lowest, on; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found, start = [0.0] * len(values), 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            found[place] = (start + 1 + stop) / 2
        start = stop
    return found


def normal_p(z: float) -> float:
    """Two-sided p-value of a standard normal deviate."""
    return math.erfc(abs(z) / math.sqrt(2))


def permutation_p(low: Sequence[float], high: Sequence[float], permutations: int, seed: int = 0) -> float:
    """One-sided p-value of a permutation test: is the mean of `low` as low by chance, both being drawn from one set?

    (1 + k) / (1 + permutations), where k random parts of all values, of the size of `low`, have as low a mean
    (Phipson and Smyth, 2010). The same for the same values in any order and the same seed.
    """
    import numpy as np

    pooled = np.sort(np.asarray([*low, *high], dtype=np.float64))
    size = min(len(low), len(high))
    if not size:
        raise ValueError("a permutation test needs values on both sides")
    small_is_low = len(low) == size
    observed = float(np.sort(np.asarray(low if small_is_low else high, dtype=np.float64)).sum())
    dice, slack = np.random.default_rng(seed), 1e-12 * float(np.abs(pooled).sum())
    sums = np.array([pooled[dice.permutation(len(pooled))[:size]].sum() for _ in range(permutations)])
    as_low = sums <= observed + slack if small_is_low else sums >= observed - slack
    return (1 + int(as_low.sum())) / (1 + permutations)


def sign_flip_p(differences: Sequence[float], permutations: int, seed: int = 0) -> float:
    """One-sided p-value of a paired permutation test: is the mean difference as low by chance, signs being random?"""
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        raise ValueError("a paired test needs pairs")
    dice, slack = np.random.default_rng(seed), 1e-12 * float(np.abs(values).sum())
    observed, as_low = float(values.sum()), 0
    for start in range(0, permutations, 512):
        signs = dice.integers(0, 2, (min(512, permutations - start), len(values)), dtype=np.int8) * 2 - 1
        as_low += int((signs @ values <= observed + slack).sum())
    return (1 + as_low) / (1 + permutations)
