"""A lasting interpreter in the sandbox, for programs that are written piece by piece."""

from __future__ import annotations

import os
import select
import socket
import time
from dataclasses import dataclass

from evalkit.sandbox.backend import Backend
from evalkit.sandbox.guest.codec import Closed, Wire
from evalkit.sandbox.guest.folder import FOLDER_BYTES
from evalkit.sandbox.pool import choose
from evalkit.sandbox.records import failure_of
from evalkit.sandbox.worker import SandboxServer, ServerLost, ending, sweep

SESSION_SECONDS = 3600.0
"""CPU seconds of a whole session."""
REPORT_SECONDS = 30.0
OUTPUT_BYTES = 1 << 20
"""Most output of a cell that is kept; the rest is read and thrown away."""


@dataclass(frozen=True)
class CellResult:
    """What a cell did."""

    failure: str
    """`passed`, or the class of its failure (see `FAILURES`; `wrong_answer`: an AssertionError)."""
    output: str = ""
    """What it printed on standard output and error, and the value of its last expression."""
    error: str = ""
    """The traceback, or why the interpreter ended."""
    seconds: float = 0.0
    """Wall time."""
    alive: bool = True
    """Whether the interpreter lives on with its variables."""
    truncated: bool = False
    """Whether more was printed than is kept."""


class Interpreter:
    """Runs cells in one interpreter that keeps its variables and files; a context manager.

    A cell that takes too long is interrupted (KeyboardInterrupt); one that does not heed that ends the
    interpreter, as does a crash. `alive` is then False and every further cell fails.
    """

    def __init__(self, backend: Backend | None = None, memory_mb: int = 4096) -> None:
        """Start one; SandboxError where no sandbox works."""
        sweep()
        self._worker = SandboxServer(backend or choose())
        talk, inner = socket.socketpair()
        self._output, write_end = os.pipe()
        os.set_blocking(self._output, False)
        self._wire = Wire(talk)
        self._printed, self._truncated = bytearray(), False
        self.alive = True
        header = {"timeout": SESSION_SECONDS, "memory": memory_mb << 20, "session": True, "libraries": []}
        try:
            self._worker.order(header, [inner.fileno(), write_end])
        finally:
            inner.close()
            os.close(write_end)

    def run(self, source: str, timeout: float = 30.0) -> CellResult:
        """Execute a cell within `timeout` CPU seconds."""
        if not self.alive:
            return CellResult("killed", error="the interpreter has ended", alive=False)
        started = time.monotonic()
        self._printed, self._truncated = bytearray(), False
        try:
            self._worker.order({"cell": timeout}, [])
            self._wire.send(["cell", source])
            answer = self._answer()
            self._worker.order({"cell": None}, [])
            interrupted = self._worker.waiting() and "interrupted" in self._worker.receive(REPORT_SECONDS)
        except (Closed, ServerLost):
            return self._ended(time.monotonic() - started)
        seconds = time.monotonic() - started
        if answer[0] == "ok":
            return CellResult("passed", self._text(), "", seconds, truncated=self._truncated)
        failure = "timeout" if interrupted and answer[1] == "KeyboardInterrupt" else failure_of(answer[1])
        return CellResult(failure, self._text(), answer[3], seconds, truncated=self._truncated)

    def _answer(self) -> list[str]:
        """The interpreter's word on a cell; meanwhile its output is read. Closed when it is none."""
        talk = self._wire.end.fileno()
        while talk not in select.select([talk, self._output], [], [])[0]:
            if not self._drain():
                break  # it closed its output; only the answer is left
        answer = self._wire.receive()
        while self._drain():
            pass
        if answer == ["ok", None]:
            return ["ok"]
        if isinstance(answer, list) and len(answer) == 4 and all(type(part) is str for part in answer):
            return answer
        raise Closed("not an answer")

    def _drain(self) -> bool:
        """Read some output; False when there is none."""
        try:
            chunk = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        room = OUTPUT_BYTES - len(self._printed)
        self._printed += chunk[:room]
        self._truncated = self._truncated or len(chunk) > room
        return bool(chunk)

    def _text(self) -> str:
        return self._printed.decode("utf-8", "replace")

    def _ended(self, seconds: float) -> CellResult:
        """The result of a cell that the interpreter did not survive."""
        self.alive = False
        self._wire.end.close()
        failure, why = "harness_error", "the sandbox's process ended"
        try:
            report = self._worker.receive(REPORT_SECONDS)
            while "stopped" not in report:
                report = self._worker.receive(REPORT_SECONDS)
            stopped = report["stopped"]
            failure = {"timeout": "timeout", "setup": "harness_error", "full": "harness_error"}.get(stopped, "killed")
            files = f"more than {FOLDER_BYTES >> 20} MiB or too many files"
            reasons = {"timeout": "out of time", "files": files, "full": "the disk is full", "setup": report["message"]}
            why = reasons.get(stopped) or f"the interpreter ended ({ending(report['status'])})"
        except ServerLost:
            pass
        while self._drain():
            pass
        return CellResult(failure, self._text(), why, seconds, False, self._truncated)

    def close(self) -> None:
        """End the interpreter and remove its files."""
        self.alive = False
        self._wire.end.close()
        self._worker.close()
        os.close(self._output)

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
