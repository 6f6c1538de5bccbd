"""Scores of short answers to questions (protocol sheets: triviaqa, nq)."""

from __future__ import annotations

from typing import Any

from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.registry import METRICS
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics.base import Case, Metric, each, mean_percent, right
from evalkit.scoring.metrics.golds import listed, texts


@METRICS.register("contains_gold")
def contains_gold(gold: Any = (), name: str = "score") -> Metric:
    """Percent of answers in which one of the gold texts occurs, anywhere, also inside a word.

    The gold is a text or a list of texts; `gold` names extraction steps that clean each of them,
    `name` the result. A gold that the steps reduce to nothing occurs in every answer, so published.
    """
    steps = parse_calls(gold)
    check_steps(steps)

    def is_right(case: Case) -> bool:
        return any(extract(one, steps, case.context) in case.answer for one in listed(case.gold))

    return Metric(
        name,
        each(lambda case: right(is_right(case))),
        mean_percent(name),
        check_gold=lambda case: texts(case.gold),
        blank_golds=bool(steps),
    )
