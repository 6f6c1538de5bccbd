"""Metrics: the judgement of one sample, and the result over a subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.core import stats
from evalkit.core.calls import make_metric as construct_metric
from evalkit.core.records import NamedCall, Row
from evalkit.sandbox.records import ProgramOutcome, Program

Values = Mapping[str, Any]
VALUE = "value"
"""Key of a sample's primary number, 0 to 1."""


@dataclass(frozen=True)
class Case:
    """One answered draw of a sample, ready to be judged."""

    sample_id: str
    repeat: int
    """Number of the draw, where a sample is generated several times."""
    answer: Any
    """What extraction read out of the output, or the winning label."""
    gold: Any
    """The raw gold field."""
    row: Row
    context: Mapping[str, Any]
    """What extraction may know: options, the subset's variables, ..."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """ppl and ll: label -> minus its log-probability in nats, as `Reply.nll` has it."""


@dataclass(frozen=True)
class Judged:
    """The judgement on one case."""

    sample_id: str
    values: Values
    """Results by name; the primary number under `value`."""


Runner = Callable[[Sequence[Program]], list[ProgramOutcome]]


@dataclass(frozen=True)
class Tools:
    """What the caller lets a metric use."""

    run_programs: Runner | None = None
    """None: generated programs must not be executed."""


def no_counts(judged: Sequence[Judged]) -> dict[str, int]:
    """Of a metric whose results are all over all samples."""
    return {}


@dataclass(frozen=True)
class Metric:
    """How answers are judged and summed up."""

    name: str
    """Key of the primary result."""
    judge: Callable[[Sequence[Case], Tools], list[Values]]
    """Values for each case, in order."""
    combine: Callable[[Sequence[Judged]], dict[str, float]]
    """Results over a subset, in percent."""
    runs_code: bool = False
    """Whether judging executes what models wrote."""
    needs_row: bool = False
    """Whether judging needs columns of the row besides the gold."""
    uses_scores: bool = False
    """Whether judging looks at log-probabilities, so that one label is enough."""
    counts: Callable[[Sequence[Judged]], dict[str, int]] = no_counts
    """Results over a part of the samples only -> how many; rows over several subsets weight them by it."""
    draws: Mapping[str, int] = field(default_factory=dict)
    """Results that need several draws of every sample -> how many."""


def make_metric(call: NamedCall) -> Metric:
    """The metric that a config names; ConfigError, with near matches, for a wrong name or argument."""
    made: Metric = construct_metric(call)
    return made


def each(judge: Callable[[Case], Values]) -> Callable[[Sequence[Case], Tools], list[Values]]:
    """A judge of all cases out of a judge of one."""
    return lambda cases, tools: [judge(case) for case in cases]


def right(is_right: bool) -> Values:
    """The values of a sample that is either right or wrong."""
    return {VALUE: 1.0 if is_right else 0.0}


def mean_percent(name: str) -> Callable[[Sequence[Judged]], dict[str, float]]:
    """100 times the mean of the samples' primary numbers, under `name`; nothing for no samples."""

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        values = [float(j.values[VALUE]) for j in judged]
        return {name: 100.0 * stats.mean(values)} if values else {}

    return combine
