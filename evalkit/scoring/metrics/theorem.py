"""TheoremQA's comparison of an answer with the gold (protocol sheet: theoremqa)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evalkit.core.errors import DataError
from evalkit.core.registry import METRICS
from evalkit.scoring.extract.latex import number
from evalkit.scoring.extract.theorem import OPTIONS, without_units
from evalkit.scoring.metrics.base import Case, Metric, Values, each, mean_percent, right
from evalkit.scoring.metrics.golds import shown

TOLERANCE = 0.04
"""Share of the gold by which a float may be off."""
CONTEXT, COLUMN = "answer_types", "Answer_type"


@METRICS.register("theorem_match")
def theorem_match(name: str = "score") -> Metric:
    """Percent of answers that match the gold by the rule of its type.

    The type is the caller's `answer_types`, else the row's `Answer_type`: option, bool, integer, float,
    `list of integer` or `list of float`. Lists match as text only, so their order and spacing count.
    """

    def judge(case: Case) -> Values:
        return right(matches(case.answer, str(case.gold), _type(case)))

    return Metric(name, each(judge), mean_percent(name), check_gold=_gold_fault)


def _gold_fault(case: Case) -> str:
    """Why the gold is not one of its type."""
    kind, text = _type(case), str(case.gold)
    if isinstance(case.gold, Mapping) or not text.strip() or case.gold in ([], ()):
        return f"{shown(case.gold)} is no answer"
    if kind == "bool":
        return "" if text.lower() in ("true", "false") else f"{shown(case.gold)} is not True or False"
    if kind in ("integer", "float"):
        try:
            return "" if math.isfinite(float(text)) else f"{shown(case.gold)} is not finite"
        except ValueError:
            return f"{shown(case.gold)} is no number, and the type of the gold is {kind}"
    return ""


def matches(answer: str, gold: str, kind: str) -> bool:
    """Whether an answer is right: an option that is named, an equal text, or a number near enough.

    Whole numbers and truth values compare with the rounded answer, so 6.5 is 6 and 1 is True; floats
    within 4 %.
    """
    if gold.lower() in OPTIONS:
        return gold.lower() in answer.lower()
    if answer.lower() == gold.lower():
        return True
    if kind not in ("float", "integer", "bool"):
        return False
    found = number(without_units(answer))
    if found is None or not math.isfinite(found):
        return False
    if kind == "bool":
        return round(found) == (gold.lower() == "true")
    value = float(gold)
    if kind == "integer":
        return round(found) == value
    return value - TOLERANCE * abs(value) <= found <= value + TOLERANCE * abs(value)


def _type(case: Case) -> str:
    kind: Any = case.context.get(CONTEXT) or case.row.get(COLUMN)
    if not isinstance(kind, str):
        raise DataError(
            f"{case.sample_id}: the type of the gold is not known", f"a column {COLUMN}, or {CONTEXT}=… for score()"
        )
    return kind
