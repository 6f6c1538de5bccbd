"""Scores of RULER."""

from __future__ import annotations

from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Metric, each, mean_percent
from evalkit.scoring.metrics.golds import texts


@METRICS.register("ruler_match")
def ruler_match(of: str = "all", name: str = "score") -> Metric:
    """Percent of the gold texts that are in the answer, case aside (`all`), or 100 where one of them is (`any`)."""
    if of not in ("all", "any"):
        raise ConfigError(f"of: {of!r} is unknown", "all or any")

    def judge(case: Case) -> dict[str, float]:
        hits = [gold.lower() in str(case.answer).lower() for gold in case.gold]
        return {VALUE: float(any(hits)) if of == "any" else sum(hits) / len(hits)}

    return Metric(name, each(judge), mean_percent(name), check_gold=lambda case: texts(case.gold))
