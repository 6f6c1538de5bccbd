"""Runs each program in a Python process of its own, with limits on time, memory and files.

This is an executor with limits, not a security boundary. It stops endless loops, memory and output
floods, writes to large files, and the usual destructive calls; the verdict travels over a private
pipe with a nonce, so neither printed text nor an exit code passes a test. It does not stop a
program that sets out to break it: one that detaches a daemon through a raw system call, opens the
network, or walks the interpreter's frames to forge a verdict. Run only what you would run anyway,
or run it inside a container.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import EvalkitError
from evalkit.metrics import Outcome, Program

DRIVER = Path(__file__).with_name("driver.py")
GRACE_SECONDS = 1.0
"""Time after its own alarm in which a program must end, before it is killed."""
STARVED_FACTOR = 20
"""Most wall time, in limits, that a program gets on a machine too busy to run it."""
LOOK_SECONDS = 0.2
"""How often to look whether a program ended without a word."""
ANSWER_BYTES = 1 << 16
VERDICT_LINES = 2
"""The nonce and the verdict."""


def run_programs(programs: Sequence[Program], workers: int) -> list[Outcome]:
    """Outcomes in order; `workers` programs run at once and do not change them.

    A time limit counts the time that a program ran or slept, not the time it waited for a core.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(pool.map(run_program, programs))


def run_program(program: Program) -> Outcome:
    """The outcome of one program; raises EvalkitError when no process can be started."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="evalkit-", ignore_cleanup_errors=True) as folder:
        run = _start(program, folder)
        try:
            answer = run.answer(program.timeout)
        finally:
            run.kill()
    seconds = time.monotonic() - started
    if answer is None:
        return Outcome("timed out", seconds=seconds)
    return _read(answer, run, seconds)


def _read(answer: bytes, run: _Run, seconds: float) -> Outcome:
    """The outcome behind what the driver wrote; what does not carry the nonce is no verdict."""
    head, _, body = answer.partition(b"\n")
    if head == run.nonce.encode():
        with contextlib.suppress(ValueError, KeyError):
            verdict = json.loads(body)
            return Outcome(verdict["status"], str(verdict["message"]), seconds, str(verdict["error"]))
    return Outcome("failed", f"no verdict ({_ending(run.process.returncode)})", seconds)


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


@dataclass(frozen=True)
class _Run:
    """A program at work."""

    process: subprocess.Popen[bytes]
    verdict_fd: int
    nonce: str

    def answer(self, timeout: float) -> bytes | None:
        """What came over the pipe until the verdict or the end; None when the time was up first.

        Children of the program may hold the pipe open, so its closing is not waited for.
        """
        begun = time.monotonic()
        received = b""
        while True:
            now = time.monotonic() - begun
            left = timeout + GRACE_SECONDS + min(self._starved(), timeout * STARVED_FACTOR) - now
            if left <= 0:
                return None
            ended = self.process.poll() is not None
            if not select.select([self.verdict_fd], [], [], min(left, LOOK_SECONDS))[0]:
                if ended:
                    return received
                continue  # perhaps it was starved meanwhile
            chunk = os.read(self.verdict_fd, ANSWER_BYTES)
            received += chunk
            if not chunk or received.count(b"\n") >= VERDICT_LINES or len(received) > ANSWER_BYTES:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(GRACE_SECONDS)
                return received

    def _starved(self) -> float:
        """Seconds that the process waited for a core (Linux; 0 elsewhere)."""
        try:
            return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def kill(self) -> None:
        """End the program and whatever it left in its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.verdict_fd)


def _start(program: Program, folder: str) -> _Run:
    """Start the driver in `folder` and hand it the program."""
    nonce = secrets.token_hex(16)
    read_end, write_end = os.pipe()
    order = {
        "source": program.source,
        "timeout": program.timeout,
        "memory": program.memory_mb << 20,
        "nonce": nonce,
        "fd": write_end,
        "parent": os.getpid(),
    }
    environment = {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=folder, env=environment, pass_fds=(write_end,), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        os.close(read_end)
        message = f"no process can be started for a generated program: {error}"
        raise EvalkitError(message, "use fewer workers") from error
    finally:
        os.close(write_end)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(json.dumps(order).encode("utf-8", "surrogatepass"))
    return _Run(process, read_end, nonce)
