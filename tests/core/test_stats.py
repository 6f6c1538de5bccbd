"""Statistics against numbers that are known from elsewhere, and against each other."""

from __future__ import annotations

import itertools
import math

import pytest

from evalkit.core import stats


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 1.0), (0, 6, 0.03125), (1, 9, 22 / 1024), (9, 1, 22 / 1024), (121, 59, 4.4e-6)],
)
def test_mcnemar(only_a: int, only_b: int, p: float) -> None:
    """The last is a much-quoted table whose chi-squared is 21.35 (p = 3.8e-6); the exact test is a little wider."""
    assert stats.mcnemar_exact(only_a, only_b) == pytest.approx(p, rel=0.02)


def test_mcnemar_is_the_binomial_tail_also_where_floats_end() -> None:
    for n in (7, 50, 333):
        for k in range(0, n // 2, 5):
            tail = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
            assert stats.mcnemar_exact(k, n - k) == pytest.approx(min(1.0, tail), rel=1e-12)
    assert 0 <= stats.mcnemar_exact(0, 5000) < 1e-300
    assert stats.mcnemar_exact(10_000, 10_100) == pytest.approx(stats.normal_p(99 / math.sqrt(20_100)), rel=0.01)


def test_paired_interval_covers_as_often_as_it_says() -> None:
    """Every table of 30 pairs with 10 % and 20 % disagreements, weighted by its probability."""
    n, pa, pb = 30, 0.1, 0.2
    covered = 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            ways = math.comb(n, a) * math.comb(n - a, b)
            low, high = stats.paired_proportions(a, b, n)
            covered += ways * pa**a * pb**b * (1 - pa - pb) ** (n - a - b) * (low <= pb - pa <= high)
    assert 0.94 < covered < 0.975
    low, high = stats.paired_proportions(0, 0, 20)
    assert low == -high and 0 < high < 0.15
    assert stats.paired_proportions(0, 20, 20)[1] == 1.0


def test_proportion_error() -> None:
    assert stats.proportion_error(0.5, 96) == pytest.approx(0.05)
    assert 0 < stats.proportion_error(0.0, 100) < 0.02
    assert stats.proportion_error(0.2, 10**6) == pytest.approx(math.sqrt(0.16 / 10**6), rel=1e-4)


def test_permutation_of_one_stratum_is_the_sign_test() -> None:
    for down, up in ((1, 9), (5, 5), (0, 6), (3, 12)):
        differences = [-1.0] * down + [1.0] * up + [0.0] * 20
        assert stats.paired_permutation_p([differences], [1.0]) == pytest.approx(
            stats.mcnemar_exact(down, up), rel=0.1, abs=1e-3
        )
    assert stats.paired_permutation_p([[0.0] * 9, [0.0]], [1.0, 2.0]) == 1.0


def test_permutation_of_strata_by_all_sign_flips() -> None:
    strata, weights = [[1.0, -1.0, 1.0, 0.0], [1.0, 1.0], [0.5, -0.25, 0.0]], [1.0, 2.0, 1.0]

    def statistic(parts: list[list[float]]) -> float:
        return sum(w * sum(part) / len(part) for w, part in zip(weights, parts, strict=True))

    flat = [(s, i) for s, part in enumerate(strata) for i, d in enumerate(part) if d]
    observed, extreme = abs(statistic(strata)), 0
    for signs in itertools.product((1.0, -1.0), repeat=len(flat)):
        flipped = [list(part) for part in strata]
        for sign, (s, i) in zip(signs, flat, strict=True):
            flipped[s][i] *= sign
        extreme += abs(statistic(flipped)) >= observed - 1e-12
    assert stats.paired_permutation_p(strata, weights) == pytest.approx(extreme / 2 ** len(flat), rel=0.03)


def test_normal_p() -> None:
    assert stats.normal_p(stats.Z95) == pytest.approx(0.05) and stats.normal_p(-stats.Z95) == pytest.approx(0.05)
    assert stats.normal_p(0.0) == 1.0
