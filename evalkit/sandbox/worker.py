"""One server and the programs that it is given, one after another."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

from evalkit.sandbox.backend import Backend, SandboxError, start
from evalkit.sandbox.guest.folder import FOLDER_BYTES, wipe
from evalkit.sandbox.guest.server import LIBRARIES
from evalkit.sandbox.guest.watch import BUSY_FACTOR, BUSY_SECONDS, HUNG_UP
from evalkit.sandbox.records import Program, ProgramOutcome, failure_of

START_SECONDS = 60.0
END_SECONDS = 5.0
REPORT_BYTES = 1 << 16
DISK_FULL = "not judged: the disk was full"
NO_SPACE = f"[Errno {errno.ENOSPC}]"
PREFIX = "evalkit-sandbox-"
TESTS_ENDED = "not judged: the tests' process ended"
SEQUENCED = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM) if sys.platform == "linux" else socket.SOCK_STREAM


class ServerLost(Exception):
    """A server ended, or does not answer; what it worked on was not judged."""


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turns errors of the temporary folder into a SandboxError: nothing was judged, whatever the program is like."""
    try:
        yield
    except OSError as error:
        place = os.environ.get("TMPDIR") or "/tmp"
        message = f"programs are not judged, nothing can be written to {place}: {error.strerror or error}"
        raise SandboxError(message, "free some space there, or set TMPDIR to another folder") from error


def own_folder() -> tuple[str, int]:
    """A new temporary folder, and a descriptor that locks it for as long as this process lives."""
    while True:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(folder), os.fstat(lock)):
                return folder, lock  # else another process swept it before it was locked
        os.close(lock)


def sweep() -> None:
    """Remove what killed runs of this user have left: folders that nobody has locked."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _sweep(entry.path)


def _sweep(folder: str) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            wipe(folder)
            os.rmdir(folder)
    finally:
        os.close(lock)


class SandboxServer:
    """A server at work; to be closed."""

    def __init__(self, backend: Backend) -> None:
        """Start one; SandboxError when it does not come up."""
        with scratch_errors():
            self.folder, self._lock = own_folder()
        self.filled = False
        """Whether the last program took, or lacked, room on a disk that it shares with others."""
        self.control, inner = socket.socketpair(socket.AF_UNIX, SEQUENCED)
        try:
            with inner:
                self.process: subprocess.Popen[bytes] = start(backend, self.folder, inner.fileno())
        except SandboxError:
            self.control.close()
            shutil.rmtree(self.folder)
            os.close(self._lock)
            raise
        try:
            self.receive(START_SECONDS)
        except ServerLost:
            problem = self._complaint()
            self.close()
            raise SandboxError(f"{backend.name} does not start: {problem}", "run.py doctor") from None

    def _complaint(self) -> str:
        """The last line that a server which did not start has printed."""
        self._kill()
        text = self.process.stderr.read().decode("utf-8", "replace").strip() if self.process.stderr else ""
        return text.splitlines()[-1] if text else f"exit status {self.process.returncode}"

    def waiting(self) -> bool:
        """Whether a message of the server is there."""
        return bool(select.select([self.control], [], [], 0)[0])

    def order(self, header: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Send an order with its files; ServerLost when nobody is there."""
        try:
            socket.send_fds(self.control, [json.dumps(header).encode()], list(descriptors))
        except OSError as error:
            raise ServerLost("gone") from error

    def receive(self, seconds: float) -> dict[str, Any]:
        """The server's next message."""
        self.control.settimeout(seconds)
        try:
            message = self.control.recv(REPORT_BYTES)
        except OSError as error:
            raise ServerLost("gone or silent") from error
        if not message:
            raise ServerLost("gone")
        found: dict[str, Any] = json.loads(message)
        return found

    def run(self, program: Program, alone: bool = False) -> ProgramOutcome:
        """The outcome of a program; ServerLost when this server can give none."""
        started = time.monotonic()
        order = {"given": program.given, "tests": program.tests, "entry_point": program.entry_point}
        header = {
            "timeout": program.timeout,
            "memory": program.memory_mb << 20,
            "session": False,
            "libraries": libraries_of(program),
        }
        with ExitStack() as stack:
            with scratch_errors():
                source = _file(stack, program.source)
                tests = _file(stack, json.dumps(order))
            read_end, write_end = os.pipe()
            answer = stack.enter_context(open(read_end, "rb"))
            try:
                self.order(header, [source.fileno(), tests.fileno(), write_end])
            finally:
                os.close(write_end)
            report = self.receive(program.timeout * BUSY_FACTOR + BUSY_SECONDS + START_SECONDS)
            verdict = answer.read()
        self.filled = not report["counted"] and report["stopped"] in ("files", "full")
        return judged(program, report, verdict, time.monotonic() - started, alone)

    def close(self) -> None:
        """End the server with all that it started, and remove its folder."""
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self._kill()
        if self.process.stderr:
            self.process.stderr.close()
        with suppress(FileNotFoundError):
            wipe(self.folder)
            os.rmdir(self.folder)
        os.close(self._lock)

    def _kill(self) -> None:
        """The whole process group: programs cannot leave it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _file(stack: ExitStack, text: str) -> IO[bytes]:
    """A nameless file that holds the text."""
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    file.write(text.encode("utf-8", "surrogatepass"))
    file.flush()
    return file


def libraries_of(program: Program) -> list[str]:
    """The large libraries that a program or its tests speak of."""
    return [name for name in LIBRARIES if name in program.source or name in program.tests]


def judged(program: Program, report: Mapping[str, Any], verdict: bytes, seconds: float, alone: bool) -> ProgramOutcome:
    """The outcome behind a server's report and the verdict of the tests' process.

    A disk that is shared with others and full makes right programs fail: then there is no verdict. One that was full
    for a moment is known by the program's own error, which is believed unless the program ran `alone`.
    """
    stopped, cpu = report["stopped"], report["cpu"]
    if stopped == "timeout" or cpu >= program.timeout:
        return ProgramOutcome("timed out", seconds=seconds)
    if stopped == "files":
        return ProgramOutcome(
            "failed", f"more than {FOLDER_BYTES >> 20} MiB or too many files", seconds, failure_override="killed"
        )
    if stopped == "full":
        return ProgramOutcome("failed", DISK_FULL, seconds, failure_override="harness_error")
    if stopped or not verdict:
        busy = "the machine was too busy to run it" if stopped == "busy" else ""
        message = report["message"] or busy
        said = f"not judged: {message}" if message else TESTS_ENDED
        return ProgramOutcome("failed", said, seconds, failure_override="harness_error")
    found = json.loads(verdict)
    if found["status"] == "passed":
        return ProgramOutcome("passed", seconds=seconds)
    if found["status"] == "lost":
        return ProgramOutcome("failed", f"no verdict ({ending(report['status'])})", seconds, failure_override="killed")
    if found["status"] == "unjudged":
        return ProgramOutcome("failed", f"not judged: {found['message']}", seconds, failure_override="harness_error")
    if NO_SPACE in found["message"] and not report["counted"] and not alone:
        return ProgramOutcome("failed", DISK_FULL, seconds, failure_override="harness_error")
    kind = "syntax_error" if found["compiling"] else failure_of(found["error"])
    return ProgramOutcome("failed", found["message"], seconds, found["error"], kind)


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status == HUNG_UP:
        return "it hung up"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.WEXITSTATUS(status)}"
