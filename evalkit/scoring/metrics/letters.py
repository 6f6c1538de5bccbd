"""Scores of lists of option letters (protocol sheet: gaokao_bench)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Values, each
from evalkit.scoring.metrics.golds import texts

NO_ANSWER = "Z"
COMBINED = "multi_choice"
UNSCORED = "cloze"


@METRICS.register("letter_score")
def letter_score(name: str = "score") -> Metric:
    """Percent of the points for lists of letters, over all letters of a subset (protocol sheet: gaokao_bench).

    Answer and gold are lists; where their lengths differ all is wrong. Each gold letter is one point. Where
    the context's `type` is `multi_choice` a gold of several letters is one point too, and half a point goes
    to an answer that has no wrong letter. Questions of type `cloze` score 0, so published.
    """

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        golds = sum(item.values["golds"] for item in judged)
        return {name: math.fsum(item.values["points"] for item in judged) / golds * 100} if golds else {}

    def check(case: Case) -> str:
        fault = texts(list(case.gold) if isinstance(case.gold, str) else case.gold)
        return fault and f"{fault}; the gold is a list of option letters"

    return Metric(name, each(_judge), combine, check_gold=check)


def _judge(case: Case) -> Values:
    kind, golds = case.context.get("type", ""), list(case.gold)
    answers = list(case.answer)
    if len(answers) != len(golds) or kind == UNSCORED:
        answers = [NO_ANSWER] * len(golds)
    points = math.fsum(_points(a, g, kind == COMBINED) for a, g in zip(answers, golds, strict=True))
    return {VALUE: points / len(golds) if golds else 0.0, "points": points, "golds": len(golds)}


def _points(answer: str, gold: str, is_combined: bool) -> float:
    """1 for the right answer; of a combined one 0.5 when every letter, in any order, is right."""
    if answer == gold:
        return 1.0
    return 0.5 if is_combined and set(answer) <= set(gold) else 0.0
