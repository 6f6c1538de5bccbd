"""Scores of L-Eval (protocol sheet: leval)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalkit.core import stats
from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.registry import METRICS
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, each, mean_percent, right
from evalkit.scoring.metrics.golds import one_text, shown

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
GEOMETRIC = "geometric"
SUBSET = 0.25
"""Of an answer with some of the right letters and no wrong one, in L-Eval's own script."""


@METRICS.register("leval_rouge")
def leval_rouge() -> Metric:
    """ROUGE-1, 2, L and Lsum, F values without stemming, as the reference gives them: the middle of 1000 resampled
    means (NumPy's seed 0), which differs from the plain mean in the first or second decimal.

    `geometric` is the ROUGE score of L-Eval's own script: the geometric mean of the plain means of the first three.
    Texts are lower-cased and split into runs of `a-z0-9`; Lsum takes lines for sentences (package rouge-score).
    """

    def judge(case: Case) -> dict[str, float]:
        found = _scorer().score(case.gold, str(case.answer))
        values = {kind: float(found[kind].fmeasure) for kind in KINDS}
        return {VALUE: values[KINDS[0]], **values}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        if not judged:
            return {}
        columns = {kind: [float(j.values[kind]) for j in judged] for kind in KINDS}
        means = [stats.mean(columns[kind]) for kind in KINDS[:3]]
        geometric = 100.0 * math.prod(means) ** (1 / len(means))
        return {**{k: 100.0 * v for k, v in bootstrap_middle(columns).items()}, GEOMETRIC: geometric}

    def check(case: Case) -> str:
        fault = one_text(case.gold)
        readable = any(c in "abcdefghijklmnopqrstuvwxyz0123456789" for c in str(case.gold).lower())
        return fault or ("" if readable else f"{shown(case.gold)} has no letter or digit that ROUGE reads")

    return Metric(KINDS[0], each(judge), combine, check_gold=check)


def _scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(KINDS), use_stemmer=False)


def bootstrap_middle(columns: dict[str, list[float]]) -> dict[str, float]:
    """The median of 1000 means of resampled values, for each column, with NumPy's legacy generator at seed 0.

    Equal to rouge-score's BootstrapAggregator after `numpy.random.seed(0)`: it draws the rows of precision, recall
    and F of one column together, so the F values alone give the same.
    """
    import numpy

    draws = numpy.random.RandomState(0)
    middle = {}
    for kind, values in sorted(columns.items()):
        column = numpy.array(values)
        means = [column[draws.choice(numpy.arange(len(column)), size=len(column))].mean() for _ in range(1000)]
        middle[kind] = float(numpy.percentile(means, 50))
    return {kind: middle[kind] for kind in columns}


@METRICS.register("leval_contained")
def leval_contained(gold: Sequence[str] = (), name: str = "accuracy") -> Metric:
    """Percent of answers that contain the gold, as it is or cleaned by the extraction steps `gold`."""
    steps = parse_calls(gold)
    check_steps(steps)

    def is_right(case: Case) -> bool:
        cleaned = extract(case.gold, steps, case.context)
        return cleaned in case.answer or case.gold in case.answer

    return Metric(
        name,
        each(lambda case: right(is_right(case))),
        mean_percent(name),
        check_gold=lambda case: one_text(case.gold),
    )


@METRICS.register("leval_letters")
def leval_letters(name: str = "accuracy") -> Metric:
    """L-Eval's own score of multiple choice: the right letters 100, some of them and no wrong one 25, else 0."""

    def judge(case: Case) -> dict[str, float]:
        answer, gold = set(str(case.answer)), set(case.gold)
        return {VALUE: 1.0 if answer == gold else SUBSET if answer and answer < gold else 0.0}

    return Metric(name, each(judge), mean_percent(name), check_gold=lambda case: one_text(case.gold))
