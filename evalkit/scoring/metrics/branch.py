"""A metric for each kind of question, for benchmarks whose subsets are judged by different rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core.calls import parse_calls
from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS, did_you_mean
from evalkit.scoring.metrics.base import Case, Judged, Metric, Tools, Values, make_metric

KIND = "kind"
"""Which metric judged a sample, in its values."""


@METRICS.register("by")
def by(key: str, metrics: Mapping[str, Any]) -> Metric:
    """The metric under the value of the variable `key`: `by: {key: kind, metrics: {mcq: accuracy}}`.

    The metrics must give their result the same name (`accuracy`, or what their argument `name` says); a subset's
    results are those of the metric of its samples. ConfigError for different names, for an unknown variable and
    for a value without a metric.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise ConfigError("`by` needs a metric for each value", "by: {key: kind, metrics: {mcq: accuracy, …}}")
    made = {str(value): make_metric(parse_calls(call)[0]) for value, call in metrics.items()}
    names = sorted({metric.name for metric in made.values()})
    if len(names) > 1:
        raise ConfigError(f"the metrics of one row are called {', '.join(names)}", "give them one `name`")

    def value_of(case: Case) -> str:
        if key not in case.context:
            raise ConfigError(f"the metric depends on {key!r}, which is not known here", f"give {key}=…")
        value = str(case.context[key])
        if value not in made:
            raise ConfigError(f"no metric for {key} {value!r}", did_you_mean(value, made))
        return value

    def judge(cases: Sequence[Case], tools: Tools) -> list[Values]:
        values: dict[int, Values] = {}
        for value, metric in made.items():
            places = [i for i, case in enumerate(cases) if value_of(case) == value]
            judged = metric.judge([cases[i] for i in places], tools) if places else []
            values.update(zip(places, ({**v, KIND: value} for v in judged), strict=True))
        return [values[i] for i in range(len(cases))]

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        kinds = {str(j.values[KIND]) for j in judged}
        if not kinds:
            return {}
        if len(kinds) != 1:
            raise ConfigError(f"one subset has samples of several kinds: {', '.join(sorted(kinds))}", "part the subset")
        return made[kinds.pop()].combine(judged)

    def check(case: Case) -> str:
        return made[value_of(case)].check_gold(case)

    return Metric(
        names[0],
        judge,
        combine,
        runs_code=any(m.runs_code for m in made.values()),
        needs_row=any(m.needs_row for m in made.values()),
        draws={name: count for m in made.values() for name, count in m.draws.items()},
        check_gold=check,
        uses_gold=all(m.uses_gold for m in made.values()),
        blank_golds=any(m.blank_golds for m in made.values()),
        repeatable=all(m.repeatable for m in made.values()),
    )
