"""Programs judged by assertions that are executed behind them (protocol sheets: mbpp, lcbench)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core import stats
from evalkit.core.errors import DataError
from evalkit.core.registry import METRICS
from evalkit.sandbox.records import FAILURE, Program, ProgramOutcome
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Tools, Values, right
from evalkit.scoring.metrics.code import executed, tests_fault

PASS, TIMEOUT, WRONG, FAILED = "pass", "timeout", "wrong_answer", "failed"
VERDICTS = (PASS, TIMEOUT, FAILED, WRONG)


@METRICS.register("passes_asserts")
def passes_asserts(name: str = "score", timeout: float = 9.0, tests: str = "", problem: str = "") -> Metric:
    """Percent of programs that pass their assertions, and how many ended in which way.

    The gold is the assertions' text, or a list of such texts, or a mapping that holds it under `tests`. A program
    may run `timeout` seconds. Besides `name` the results are the numbers of programs, not percent, that
    `pass`, `timeout`, gave a `wrong_answer` (an AssertionError, wherever raised) or `failed` (any
    other exception). With `problem`, a key of the gold, programs of one problem are averaged first.
    """

    def judge(cases: Sequence[Case], tools: Tools) -> list[Values]:
        programs = [Program(f"{case.answer}\n", timeout, tests=str(_tests(case, tests))) for case in cases]
        outcomes = executed(programs, tools)
        return [_values(c, o, _part(c, problem) if problem else None) for c, o in zip(cases, outcomes, strict=True)]

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        if not judged:
            return {}
        counts = Counter(item.values["verdict"] for item in judged)
        score = 100.0 * stats.mean(_by_problem(judged) if problem else [item.values[VALUE] for item in judged])
        return {name: score, **{verdict: float(counts[verdict]) for verdict in VERDICTS}}

    def check(case: Case) -> str:
        if problem:
            _part(case, problem)
        return tests_fault(_tests(case, tests))

    return Metric(name, judge, combine, runs_code=True, check_gold=check)


def verdict_of(outcome: ProgramOutcome) -> str:
    """How a program ended, in the words of the published tables."""
    if outcome.status == "failed":
        return WRONG if outcome.error == AssertionError.__name__ else FAILED
    return PASS if outcome.status == "passed" else TIMEOUT


def _part(case: Case, key: str) -> Any:
    """The gold, or what a gold that is a mapping holds under `key`; DataError where it holds no such thing."""
    if not key:
        return case.gold
    if not isinstance(case.gold, Mapping) or key not in case.gold:
        raise DataError(f"{case.sample_id}: the gold has no {key!r}", "`gold` must be a mapping with this key")
    return case.gold[key]


def _tests(case: Case, key: str) -> Any:
    """The assertions; those of a list one below the other."""
    part = _part(case, key)
    if isinstance(part, (list, tuple)) and part and all(isinstance(one, str) and one.strip() for one in part):
        return "\n".join(part)
    return part


def _values(case: Case, outcome: ProgramOutcome, problem: Any) -> Values:
    values: dict[str, Any] = {
        **right(outcome.status == "passed"),
        "verdict": verdict_of(outcome),
        "message": outcome.message,
    }
    values[FAILURE] = outcome.failure
    return values if problem is None else {**values, "problem": problem}


def _by_problem(judged: Sequence[Judged]) -> list[float]:
    """Share of right programs of each problem."""
    groups: dict[Any, list[float]] = {}
    for item in judged:
        groups.setdefault(item.values["problem"], []).append(item.values[VALUE])
    return [stats.mean(values) for values in groups.values()]
