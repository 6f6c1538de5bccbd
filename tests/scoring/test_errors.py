"""Standard errors: of the statistic that is shown, over samples."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from evalkit.core import stats
from evalkit.core.calls import make_metric, parse_calls
from evalkit.core.records import NamedCall
from evalkit.scoring.errors import standard_errors
from evalkit.scoring.metrics import Judged, Metric


def judged(values: Sequence[Sequence[float]]) -> list[Judged]:
    """One inner list a sample, one value a draw."""
    return [Judged(f"s/{i}", {"value": v}) for i, draws in enumerate(values) for v in draws]


def letter_lists(golds: Sequence[int], points: Sequence[float]) -> list[Judged]:
    return [
        Judged(f"s/{i}", {"value": p / g, "points": p, "golds": g})
        for i, (g, p) in enumerate(zip(golds, points, strict=True))
    ]


def errors_of(metric: Metric, items: list[Judged]) -> dict[str, float]:
    return standard_errors(metric, items, metric.combine(items))


def test_a_mean_has_the_textbook_error() -> None:
    values = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    metric = make_metric(NamedCall("accuracy"))
    expected = stats.standard_error([100 * v for v in values])
    assert errors_of(metric, judged([[v] for v in values])) == {metric.name: pytest.approx(expected)}
    assert errors_of(metric, judged([[1.0]])) == {}


def test_draws_count_once() -> None:
    rng = random.Random(0)
    samples = [[float(rng.random() < p) for _ in range(8)] for p in (rng.random() for _ in range(50))]
    metric = make_metric(NamedCall("accuracy"))
    expected = stats.standard_error([100 * stats.mean(draws) for draws in samples])
    assert errors_of(metric, judged(samples))[metric.name] == pytest.approx(expected)


@pytest.mark.parametrize("n", [40, 250])
def test_pass_at_10_is_the_mean_of_the_problems_estimates(n: int) -> None:
    """With a group a problem the jackknife is exact for a mean; with 100 groups it is near."""
    rng = random.Random(1)
    samples = [[float(rng.random() < p) for _ in range(20)] for p in (rng.random() ** 3 for _ in range(n))]
    solved = [int(sum(draws)) for draws in samples]
    estimates = [100 * (1 - math.comb(20 - c, 10) / math.comb(20, 10)) for c in solved]
    metric = make_metric(NamedCall("pass_at_k", {"k": [1, 10]}))
    got = errors_of(metric, judged(samples))
    assert got["pass@10"] == pytest.approx(stats.standard_error(estimates), rel=1e-6 if n <= 100 else 0.3)
    assert got["pass@1"] == pytest.approx(stats.standard_error([100 * stats.mean(d) for d in samples]))


def test_a_ratio_of_sums_has_an_error_of_its_own() -> None:
    """Points per letter where rows have 1 to 50 letters: the bootstrap of the ratio is the control."""
    rng = random.Random(2)
    golds = [rng.choice([1, 1, 1, 5, 50]) for _ in range(80)]
    points = [float(sum(rng.random() < 0.5 for _ in range(g))) for g in golds]
    metric = make_metric(NamedCall("letter_score"))
    items = letter_lists(golds, points)
    got = errors_of(metric, items)["score"]
    replicates = [metric.combine(rng.choices(items, k=len(items)))["score"] for _ in range(3000)]
    middle = stats.mean(replicates)
    bootstrap = math.sqrt(stats.mean([(r - middle) ** 2 for r in replicates]))
    assert got == pytest.approx(bootstrap, rel=0.25)
    naive = stats.standard_error([100 * p / g for g, p in zip(golds, points, strict=True)])
    assert naive is not None and abs(naive - bootstrap) > 2 * abs(got - bootstrap)


def test_every_result_gets_an_error() -> None:
    items = [
        Judged(f"s/{i}", {"value": float(i % 3 == 0), "exact_match": float(i % 3 == 0), "f1": i % 7 / 7})
        for i in range(60)
    ]
    metric = Metric(
        "exact_match",
        lambda cases, tools: [],
        lambda kept: {name: 100 * stats.mean([j.values[name] for j in kept]) for name in ("exact_match", "f1")},
    )
    got = errors_of(metric, items)
    assert got["f1"] == pytest.approx(stats.standard_error([100 * i.values["f1"] for i in items]), rel=1e-9)
    assert set(got) == {"exact_match", "f1"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_library_is_asked_once(tmp_path: Path, wrapped: bool) -> None:
    """Its metric may be slow or raise on a part of the samples: no jackknife, so no standard error."""
    script = tmp_path / "count_calls.py"
    script.write_text(SCRIPT.format(log=str(tmp_path / "calls")))
    library = {f"evaluate:{script}": {"scale": 1.0}}
    metric = make_metric(parse_calls({"by": {"key": "kind", "metrics": {"a": library}}} if wrapped else library)[0])
    values = [{"answer": 1, "gold": 1, "kind": "a"} for _ in range(30)]
    assert errors_of(metric, [Judged(f"s/{i}", v) for i, v in enumerate(values)]) == {}
    assert (tmp_path / "calls").read_text() == "1\n"


SCRIPT = """
import datasets
import evaluate

class CountCalls(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        with open({log!r}, "a") as handle:
            handle.write("1\\n")
        return {{"count_calls": float(len(predictions))}}
"""
