"""Standard errors of a subset's results, over samples: draws of one sample are correlated and count once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from evalkit.core import stats
from evalkit.core.records import Score
from evalkit.scoring.metrics import Judged, Metric
from evalkit.scoring.metrics.base import VALUE

GROUPS = 100
"""Most groups of the jackknife."""
EQUAL = 1e-9


def standard_errors(metric: Metric, judged: Sequence[Judged], results: Mapping[str, float]) -> dict[str, float]:
    """The standard error of each result, in percent; a result is left out where none can be given.

    That of a mean over samples of their primary values is exact (sample variance, n - 1). Every other
    result, a ratio of sums or pass@k, gets that of the grouped jackknife, which takes the statistic itself
    (Efron and Tibshirani, 1993, chapter 11): samples are dealt to at most 100 groups in their order, and
    the result is computed without each group in turn.
    """
    samples: dict[str, list[Judged]] = {}
    for item in judged:
        samples.setdefault(item.sample_id, []).append(item)
    if len(samples) < 2:
        return {}
    errors: dict[str, float] = {}
    means, value = _means(list(samples.values())), results.get(metric.name)
    if means and value is not None and math.isclose(value, stats.mean(means), rel_tol=EQUAL, abs_tol=EQUAL):
        errors[metric.name] = stats.standard_error(means) or 0.0
    if metric.repeatable and set(results) - set(errors):
        errors = {**_jackknife(metric, list(samples.values()), results), **errors}
    return errors


def _means(samples: Sequence[Sequence[Judged]]) -> list[float]:
    """The mean primary value of each sample, in percent; none where a value is no number."""
    values = [[item.values.get(VALUE) for item in draws] for draws in samples]
    if not all(isinstance(v, (bool, int, float)) for draws in values for v in draws):
        return []
    return [100.0 * stats.mean([float(v) for v in draws if v is not None]) for draws in values]


def _jackknife(metric: Metric, samples: Sequence[Sequence[Judged]], results: Mapping[str, float]) -> dict[str, float]:
    count = min(GROUPS, len(samples))
    replicates = []
    for group in range(count):
        kept = [item for i, draws in enumerate(samples) if i % count != group for item in draws]
        replicates.append(metric.combine(kept))
    errors = {}
    for name in results:
        values = [r[name] for r in replicates if name in r]
        if len(values) == count:
            middle = stats.mean(values)
            errors[name] = math.sqrt((count - 1) / count * math.fsum((v - middle) ** 2 for v in values))
    return errors


def interval_of(score: Score) -> tuple[float, float] | None:
    """The 95 % interval of a score in its own unit, by the normal distribution, cut at 0 and 100 where it is a share.

    None without a standard error, and where that is 0 (all samples alike): a normal interval would have no width.
    """
    if score.value is None or not score.stderr:
        return None
    low, high = score.value - stats.Z95 * score.stderr, score.value + stats.Z95 * score.stderr
    return (max(0.0, low), min(100.0, high)) if 0 <= score.value <= 100 else (low, high)
