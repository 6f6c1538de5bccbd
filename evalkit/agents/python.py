"""Python for models: code in, result or error out, in the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from evalkit.agents.base import Call, ToolResult
from evalkit.sandbox import Backend, CellResult, Interpreter, SandboxError

SOLUTION = "PythonInterpreter"
"""The tool of the ReAct protocol: runs code that defines `solution()`, and gives what that returns."""
LONGEST = 8192
"""Characters of a result that a model is shown."""
FENCES = ("```python", "```")
RUN = """
def _run(source):
    import contextlib, io, json
    class Sink(io.TextIOBase):
        def write(self, text):
            return len(text)
    scope = {"__name__": "__main__"}
    try:
        with contextlib.redirect_stdout(Sink()), contextlib.redirect_stderr(Sink()):
            exec(source, scope)
            value = str(eval("solution()", scope))
        return json.dumps([True, value[:%d]])
    except Exception as error:
        return json.dumps([False, str(error)[:%d]])
print()
print(_run(%r))
"""


def code_in(text: str) -> str:
    """What stands between the first fence and the next; the whole text where there is none."""
    for fence in FENCES:
        if fence in text:
            return text.split(fence, 1)[1].split("```", 1)[0]
    return text


class PythonTools:
    """The sandboxed interpreter of one conversation."""

    def __init__(self, backend: Backend, memory_mb: int = 4096) -> None:
        self._backend, self._memory_mb = backend, memory_mb

    def run(self, call: Call, earlier: Sequence[Call]) -> ToolResult:
        """The result of a call; each starts without the names of the calls before it.

        SandboxError when the sandbox, and not the code, is at fault.
        """
        source = RUN % (LONGEST, LONGEST, code_in(call.input))
        with Interpreter(self._backend, self._memory_mb) as interpreter:
            return _result(interpreter.run(source, call.seconds), call.seconds)

    def close(self) -> None:
        """Every call ends its interpreter."""


def _result(cell: CellResult, seconds: float) -> ToolResult:
    """What a model is told of the run of its code."""
    if cell.failure == "harness_error":
        raise SandboxError(f"a tool could not be run: {cell.error}", "run the same command again: it goes on")
    if cell.failure == "timeout":
        return ToolResult(f"Time out after {seconds:g} seconds.", False, cell.failure)
    if cell.failure != "passed":
        return ToolResult(f"Failed. {_last_line(cell.error)}.", False, cell.failure)
    try:
        ok, text = json.loads(cell.output.rstrip("\n").rpartition("\n")[2])
    except (ValueError, TypeError):  # it wrote to the output behind Python's back
        return ToolResult("Failed. There is no result.", False, "runtime_error")
    return ToolResult(str(text), True) if ok is True else ToolResult(f"Failed. {text}.", False, "runtime_error")


def _last_line(text: str) -> str:
    """The message of a traceback, or why the interpreter ended."""
    lines = [line for line in text.splitlines() if line.strip()]
    return re.sub(r"^[A-Za-z_.]+: ", "", lines[-1]) if lines else "no reason is known"
