"""Metrics that ask whether an answer equals the gold."""

from __future__ import annotations

from typing import Any

from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.records import NamedCall
from evalkit.core.registry import METRICS
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics.base import Case, Metric, each, mean_percent, right

TOLERANCE = 1e-6


@METRICS.register("accuracy")
def accuracy(gold: Any = (), name: str = "accuracy") -> Metric:
    """Percent of answers that equal the gold, character for character (protocol sheet: mmlu).

    `gold` names extraction steps that clean the gold first, `name` the result.
    """
    steps = _steps(gold)
    return Metric(name, each(lambda case: right(case.answer == _gold(case, steps))), mean_percent(name))


@METRICS.register("numeric_accuracy")
def numeric_accuracy(gold: Any = (), name: str = "accuracy") -> Metric:
    """Percent of answers that equal the gold as text or as a number (protocol sheet: gsm8k).

    Numbers are equal within 1e-6, the gold being a whole number; where one is none, only the text counts.
    """
    steps = _steps(gold)
    return Metric(name, each(lambda case: right(same_number(case.answer, _gold(case, steps)))), mean_percent(name))


def same_number(answer: Any, gold: Any) -> bool:
    """Whether answer and gold are equal, or |float(answer) - int(gold)| < 1e-6."""
    if answer == gold:
        return True
    try:
        return abs(float(answer) - int(gold)) < TOLERANCE
    except (ValueError, TypeError, OverflowError):
        return False


def _steps(gold: Any) -> tuple[NamedCall, ...]:
    steps = parse_calls(gold)
    check_steps(steps)
    return steps


def _gold(case: Case, steps: tuple[NamedCall, ...]) -> Any:
    return extract(case.gold, steps, case.context)
