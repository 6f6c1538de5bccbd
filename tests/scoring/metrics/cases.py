"""Cases for metrics, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.scoring.metrics import Case, Judged, Metric, Tools

LABELS = ("A", "B", "C", "D")


def case(answer: Any, gold: Any, number: int = 0, row: Mapping[str, Any] | None = None, repeat: int = 0) -> Case:
    return Case(f"s/{number}", repeat, answer, gold, row or {}, {"options": LABELS})


def results(metric: Metric, cases: Sequence[Case], tools: Tools | None = None) -> dict[str, float]:
    """Judge and combine."""
    values = metric.judge(cases, tools or Tools())
    return metric.combine([Judged(c.sample_id, v) for c, v in zip(cases, values, strict=True)])


def score(metric: Metric, answers: Sequence[Any], golds: Sequence[Any]) -> dict[str, float]:
    return results(metric, [case(a, g, i) for i, (a, g) in enumerate(zip(answers, golds, strict=True))])
