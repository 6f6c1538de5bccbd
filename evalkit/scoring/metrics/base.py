"""Metrics: the judgement of one sample, and the result over a subset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evalkit.core import stats
from evalkit.core.calls import make_metric as construct_metric
from evalkit.core.errors import EvalkitError
from evalkit.core.records import Benchmark, NamedCall, Reply, Row, Sample
from evalkit.sandbox.records import Program, ProgramOutcome
from evalkit.scoring.context import Extraction, context_of
from evalkit.scoring.judges.base import Jury
from evalkit.scoring.metrics.golds import has_gold, shown

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
    continuations: Mapping[str, str] = field(default_factory=dict)
    """ll, for metrics with `uses_lengths`: label -> the text that was scored."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """The same: label -> how many tokens it has; 0 where the engine did not say."""
    reply: Reply | None = None
    """Of a metric that uses tokens: the reply for the only label."""
    transcript: Sequence[Mapping[str, Any]] = ()
    """Of a conversation: its turns (see `Reply.transcript`)."""


@dataclass(frozen=True)
class Judged:
    """The judgement on one case."""

    sample_id: str
    values: Values
    """Results by name; the primary number under `value`."""


GoldCheck = Callable[[Case], str]
"""Why the gold of a case cannot be used, in a clause; empty when it can. May raise an EvalkitError instead.

The case's `answer` is what an empty reply is read as, or the first label: its type is that of real answers.
"""
RunPrograms = Callable[[Sequence[Program]], list[ProgramOutcome]]


@dataclass(frozen=True)
class Tools:
    """What the caller lets a metric use."""

    run_programs: RunPrograms | None = None
    """None: generated programs must not be executed."""
    jury: Jury | None = None
    """The models that judge; None: there are none."""


def no_counts(judged: Sequence[Judged]) -> dict[str, int]:
    """Of a metric whose results are all over all samples."""
    return {}


UNREAD = "unread"
"""Key of a sample whose verdicts could not be read; it has no primary number."""


@dataclass(frozen=True)
class Judging:
    """What the judges of a metric are asked."""

    judges: tuple[str, ...]
    """Names of their model configs; empty: those that the command names."""
    orders: int
    """Questions of one judge about one answer."""
    max_out_len: int
    text: Callable[[Sample, str], str]
    """The question about a sample with this text for an answer."""


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
    uses_lengths: bool = False
    """Whether judging looks at the lengths of continuations; ll alone has such."""
    uses_tokens: bool = False
    """Whether judging looks at the log-probability of each token of a text; the config has one label."""
    counts: Callable[[Sequence[Judged]], dict[str, int]] = no_counts
    """Results over a part of the samples only -> how many; rows over several subsets weight them by it."""
    draws: Mapping[str, int] = field(default_factory=dict)
    """Results that need several draws of every sample -> how many."""
    check_gold: GoldCheck = lambda case: ""
    """Why a case's gold cannot be used; asked of every row before inference."""
    uses_gold: bool = True
    """Whether samples without a gold cannot be scored."""
    blank_golds: bool = False
    """Whether golds that any answer satisfies are part of a published rule."""
    repeatable: bool = True
    """Whether `combine` may be called a hundred times for a standard error; a library's may be slow, or raise."""
    judging: Judging | None = None
    """What judges are asked; None: judging needs no model."""

    def gold_faults(self, benchmark: Benchmark, samples: Iterable[Sample]) -> list[tuple[Sample, str]]:
        """The samples whose golds this metric cannot use, and why; those without a gold are left out."""
        judged = [s for s in samples if has_gold(s.gold) or not self.uses_gold]
        extraction = Extraction(benchmark)
        return [(sample, fault) for sample in judged if (fault := gold_fault(self, benchmark, sample, extraction))]

    def without_gold(self, samples: Iterable[Sample]) -> int:
        """How many samples have no gold and so cannot be scored."""
        return sum(not has_gold(sample.gold) for sample in samples) if self.uses_gold else 0


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


def gold_fault(metric: Metric, benchmark: Benchmark, sample: Sample, extraction: Extraction) -> str:
    """Why `metric` cannot score this sample, whatever a model answers; empty when it can.

    A gold cannot be used when it proves nothing (an empty reply would be right, or every label), when no label
    matches it, or when it has a shape that the metric was not made for. Asked of every row before a model is, and
    again before a row is scored.
    A sample without any gold is no fault here: `has_gold` tells them apart.
    """
    try:
        case = _case_of(benchmark, sample, extraction)
        return metric.check_gold(case) or _probe(metric, benchmark, case)
    except EvalkitError as error:
        return error.clause
    except Exception as error:  # a gold may have any shape, and a metric fail on it in any way
        return f"{shown(sample.gold)} cannot be compared with an answer ({type(error).__name__}: {error})"


def _case_of(benchmark: Benchmark, sample: Sample, extraction: Extraction) -> Case:
    """The sample with an empty reply, or with its first label for an answer."""
    context = context_of(benchmark, sample)
    answer = extraction("", sample, context) if benchmark.mode == "gen" else next(iter(context["options"]), "")
    return Case(sample.id, 0, answer, sample.gold, sample.row, context)


def _probe(metric: Metric, benchmark: Benchmark, case: Case) -> str:
    """What the metric itself says to an empty reply, or to each of the labels."""
    if metric.runs_code or metric.judging or not metric.uses_gold:
        return ""
    if benchmark.mode == "gen":
        proves_nothing = not metric.blank_golds and _are_right(metric, [case]) == [True]
        return f"{shown(case.gold)} proves nothing: an empty reply would be right" if proves_nothing else ""
    labels = list(case.context["options"])
    verdicts = _are_right(metric, [replace(case, answer=label) for label in labels])
    if verdicts and not any(verdicts):
        return f"{shown(case.gold)} matches none of the labels {', '.join(labels)}"
    return f"{shown(case.gold)} matches every label" if verdicts and all(verdicts) else ""


def _are_right(metric: Metric, cases: Sequence[Case]) -> list[bool]:
    """Whether each answer gets full marks; empty for a metric without values a sample."""
    judged = metric.judge(cases, Tools())
    return [j[VALUE] >= 1 for j in judged] if all(VALUE in j for j in judged) else []
