"""Majority vote over several draws of a sample (self-consistency: Wang et al., 2023, arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.core.calls import parse_calls
from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import Case, Judged, Metric, Tools, Values, make_metric, mean_percent

VOTE = "vote"
EMPTY = ("", "NULL", None)
"""Answers that extraction gives where it found none; they do not vote."""


@METRICS.register("majority")
def majority(of: Any, k: int | Sequence[int] = (1,)) -> Metric:
    """The metric `of`, averaged over all draws, and `maj@<k>`: that of the answer which most of the first k draws give.

    Equal answers are those that extraction makes equal; of equally frequent ones the first given wins.
    Results are in percent, for every k that all samples have draws for.
    """
    ks = sorted({k} if isinstance(k, int) else set(k))
    if not ks or not all(isinstance(n, int) and n > 0 for n in ks):
        raise ConfigError(f"majority: k must be positive whole numbers, not {k!r}", "k: [4, 16]")
    calls = parse_calls(of)
    if len(calls) != 1:
        raise ConfigError("majority: `of` must name one metric", "of: {numeric_accuracy: {}}")
    inner = make_metric(calls[0])

    def judge(cases: Sequence[Case], tools: Tools) -> list[Values]:
        judged = inner.judge(cases, tools)
        return [{**values, VOTE: case.answer} for case, values in zip(cases, judged, strict=True)]

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        draws: dict[str, list[Values]] = {}
        for item in judged:
            draws.setdefault(item.sample_id, []).append(item.values)
        least = min(map(len, draws.values()), default=0)
        voted = {
            f"maj@{n}": mean_percent("")([Judged(s, winner(own[:n])) for s, own in draws.items()])[""]
            for n in ks
            if n <= least
        }
        return {**inner.combine(judged), **voted}

    needs = {**inner.draws, **{f"maj@{n}": n for n in ks}}
    return replace(inner, judge=judge, combine=combine, draws=needs)


def winner(draws: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The values of the first draw that has the most frequent answer; of the first one where none has an answer."""
    said = [values for values in draws if values[VOTE] not in EMPTY]
    if not said:
        return draws[0]
    counts = Counter(str(values[VOTE]) for values in said)
    most = max(counts.values())
    return next(values for values in said if counts[str(values[VOTE])] == most)
