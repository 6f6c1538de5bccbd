"""pass@k: what is executed, and the estimate."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall
from evalkit.sandbox import choose, run_programs
from evalkit.sandbox.records import FAILURES, Program, ProgramOutcome
from evalkit.scoring.metrics import Tools, make_metric
from tests.scoring.metrics.cases import case, results

ROW = {"prompt": "def f(x):\n", "test": "def check(g):\n    assert g(1) == 2", "entry_point": "f"}
METRIC = make_metric(NamedCall("pass_at_k", {"prefix": "humaneval_", "k": [1, 10, 100]}))


def outcomes(programs: Sequence[Program]) -> list[ProgramOutcome]:
    """Passes what returns x + 1, by the text alone."""
    return [ProgramOutcome("passed") if "x + 1" in p.source else ProgramOutcome("failed", "why") for p in programs]


def test_program_and_values() -> None:
    seen: list[Program] = []

    def run(programs: Sequence[Program]) -> list[ProgramOutcome]:
        seen.extend(programs)
        return [ProgramOutcome("failed", "name 'y' is not defined", 0.5)]

    values = METRIC.judge([case("    return y", "f", row=ROW)], Tools(run))
    tests = "def check(g):\n    assert g(1) == 2\ncheck(f)"
    assert seen == [
        Program("def f(x):\n    return y\n", 3.0, tests=tests, entry_point="f", given="def f(x):\n    pass\n"),
    ]
    said = "failed: name 'y' is not defined"
    assert values == [{"value": 0.0, "result": said, "failure": "killed"}]  # no exception is named
    assert METRIC.runs_code


def test_result_words() -> None:
    words = [
        o.result
        for o in (
            ProgramOutcome("passed"),
            ProgramOutcome("timed out"),
            ProgramOutcome("failed"),
            ProgramOutcome("failed", "x"),
        )
    ]
    assert words == ["passed", "timed out", "failed: ", "failed: x"]


def test_only_the_ks_with_enough_draws() -> None:
    cases = [case("x + 1", "f", 0, ROW), case("x", "f", 1, ROW)]
    assert results(METRIC, cases, Tools(outcomes)) == {"humaneval_pass@1": 50.0}
    assert METRIC.name == "humaneval_pass@1"


def test_unbiased_estimate_over_draws() -> None:
    metric = make_metric(NamedCall("pass_at_k", {"k": [1, 2, 5]}))
    right = {0: 1, 1: 4}
    cases = [case("x + 1" if r < right[n] else "x", "f", n, ROW, r) for n in right for r in range(4)]
    assert results(metric, cases, Tools(outcomes)) == {
        "pass@1": pytest.approx(100 * (1 / 4 + 1) / 2),
        "pass@2": pytest.approx(100 * ((1 - 3 / 6) + 1) / 2),
    }


def test_must_be_allowed_and_needs_its_columns() -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        METRIC.judge([case("x", "f", row=ROW)], Tools())
    with pytest.raises(DataError, match="entry_point"):
        METRIC.judge([case("x", "f", row={"prompt": "", "test": ""})], Tools(outcomes))


PROMPTS = {
    "header": ("def f(x):\n", "    return x + 1"),
    "no newline": ("def f(x):", "\n    return x + 1"),
    "helper before it": ("N = 1\n\ndef g(x):\n    return x\n\ndef f(x):\n", "    return g(x) + N"),
    "a comment": ("def f(x):\n    # one more\n", "    return x + 1"),
    "begun statement": ("def f(x):\n    return ", "x + 1"),
    "in a branch": ("def f(x):\n    if x:\n", "        return x + 1"),
    "tabs": ("def f(x):\n\t", "return x + 1"),
    "docstring": ('def f(x):\n    """One more."""\n', "    return x + 1"),
    "nothing": ("", "def f(x):\n    return x + 1"),
    "a whole function": ("def f(x):\n", "def f(x):\n    return x + 1"),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_that_end_anywhere(name: str) -> None:
    """A prompt without a docstring is no program yet; what it lacks is not the model's fault."""
    prompt, answer = PROMPTS[name]
    tools = Tools(lambda programs: run_programs(programs, 1, choose(unsafe=True)))
    tests = "def check(g):\n    assert g(1) == 2"
    rows = [{"prompt": prompt, "test": tests, "entry_point": "f"}] * 2
    cases = [case(text, "f", n, rows[n]) for n, text in enumerate([answer, answer.replace("+", "-")])]
    assert METRIC.check_gold(cases[0]) == ""
    assert [v["value"] for v in METRIC.judge(cases, tools)] == [1.0, 0.0]


@pytest.mark.parametrize("prompt", ["Write a function f that adds one.", "def f(x:\n", "求和。"])
def test_a_prompt_that_is_no_python_is_a_fault_of_the_row(prompt: str) -> None:
    assert "does not begin a Python program" in METRIC.check_gold(case("", "f", row={**ROW, "prompt": prompt}))


def test_failure_classes_follow_from_status_and_error() -> None:
    classes = {
        ProgramOutcome("passed"): "passed",
        ProgramOutcome("timed out"): "timeout",
        ProgramOutcome("failed", error="AssertionError"): "wrong_answer",
        ProgramOutcome("failed", error="TabError"): "syntax_error",
        ProgramOutcome("failed", error="ModuleNotFoundError"): "import_missing",
        ProgramOutcome("failed", error="MemoryError"): "memory",
        ProgramOutcome("failed", error="ZeroDivisionError"): "runtime_error",
        ProgramOutcome("failed", "no verdict"): "killed",
        ProgramOutcome("failed", failure_override="harness_error"): "harness_error",
    }
    assert {o: o.failure for o in classes} == classes
    assert set(classes.values()) == set(FAILURES)
