"""Metrics that ask whether an answer equals the gold."""

from __future__ import annotations

import math
from typing import Any

from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.records import NamedCall
from evalkit.core.registry import METRICS
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics.base import Case, Metric, Values, each, mean_percent, right
from evalkit.scoring.metrics.golds import is_number, shown, text_or_number, texts

TOLERANCE = 1e-6
MINUS = "\u2212"


@METRICS.register("accuracy")
def accuracy(gold: Any = (), name: str = "accuracy") -> Metric:
    """Percent of answers that equal the gold, character for character (protocol sheet: mmlu).

    A gold that is a number equals the text that is written for it. `gold` names extraction steps that clean the gold
    first, `name` the result.
    """
    steps = gold_steps(gold)

    def check(case: Case) -> str:
        gold = read_gold(case, steps)
        if isinstance(gold, (list, tuple)) and isinstance(case.answer, (list, tuple)):
            return texts(gold)
        return text_or_number(gold)

    def judge(case: Case) -> Values:
        return right(same_text(case.answer, read_gold(case, steps)))

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


@METRICS.register("numeric_accuracy")
def numeric_accuracy(gold: Any = (), name: str = "accuracy", whole: bool | None = None) -> Metric:
    """Percent of answers that equal the gold as text or as a number (protocol sheet: gsm8k).

    A whole gold equals what differs by less than 1e-6, any other what differs by less than a millionth of it.
    Where the answer is no number only the text counts. `whole` takes the published rule instead, for which golds
    are whole numbers: a text with decimals equals itself only. It is the default of golds read by `gsm8k_gold`.
    """
    steps = gold_steps(gold)
    published = any(step.name == "gsm8k_gold" for step in steps) if whole is None else whole

    def check(case: Case) -> str:
        read = read_gold(case, steps)
        return "" if as_number(read) is not None else f"{shown(read)} is no number"

    def judge(case: Case) -> Values:
        return right(same_number(case.answer, read_gold(case, steps), published))

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


def same_text(answer: Any, gold: Any) -> bool:
    """Whether an answer is the gold; a number stands for its text."""
    return bool(answer == gold) or (is_number(gold) and answer == str(gold))


def same_number(answer: Any, gold: Any, whole: bool = False) -> bool:
    """Whether answer and gold are equal as texts or as numbers (`numeric_accuracy`)."""
    if answer == gold:
        return True
    try:
        wanted = int(gold) if whole else as_number(gold)
        given = float(answer) if whole else as_number(answer)
        if wanted is None or given is None:
            return False
        return abs(float(given) - wanted) < (TOLERANCE if wanted == int(wanted) else TOLERANCE * abs(wanted))
    except (ValueError, TypeError, OverflowError):
        return False


def as_number(value: Any) -> int | float | None:
    """The finite number that a value is or that its whole text writes; None where it is none."""
    if is_number(value):
        return int(value) if value == int(value) else float(value)
    if not isinstance(value, str):
        return None
    text = value.strip().replace(",", "").replace(MINUS, "-")
    for convert in (int, float):
        try:
            return convert(text) if math.isfinite(float(text)) else None
        except (ValueError, OverflowError):
            continue
    return None


def gold_steps(gold: Any) -> tuple[NamedCall, ...]:
    """Extraction steps for golds, checked."""
    steps = parse_calls(gold)
    check_steps(steps)
    return steps


def read_gold(case: Case, steps: tuple[NamedCall, ...]) -> Any:
    """The case's gold after the steps."""
    return extract(case.gold, steps, case.context)
