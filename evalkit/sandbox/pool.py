"""Runs programs on several servers at once; the outcomes do not depend on how many."""

from __future__ import annotations

import queue
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache

from evalkit.sandbox.backend import Backend, SandboxError, candidates
from evalkit.sandbox.records import Program, ProgramOutcome
from evalkit.sandbox.worker import DISK_FULL, TESTS_ENDED, SandboxServer, ServerLost, sweep

ATTEMPTS = 3
"""How often a program is run whose server, or whose own process, is killed from outside."""
KILLED = ("no verdict (killed by SIGKILL)", TESTS_ENDED)
"""When memory runs out, the kernel may choose a program that has done nothing wrong."""
ADVICE = "install bubblewrap, or use a kernel with Landlock (6.12), or accept the risk with --unsafe-code"

PROBE = """
import os, posix, socket
def denied(work, *args):
    try:
        work(*args)
    except OSError:
        return True
    return False
def outside():
    pair, _ = socket.socketpair()
    return [
        denied(open, '/etc/passwd'), denied(open, '/tmp/evalkit-probe', 'w'), denied(open, '/proc/1/environ'),
        denied(open, CANARY), denied(open, CANARY, 'a'), denied(socket.socket), denied(posix.fork),
        denied(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM), denied(pair.sendto, b'x', CANARY),
        denied(pair.sendmsg, [b'x'], [], 0, CANARY), denied(pair.sendmsg, [b'x']),
        denied(posix.kill, posix.getppid(), 0), denied(posix.chmod, '/dev/null', 0o666),
        denied(posix.execv, '/bin/true', ['true']),
    ]
def inside():
    with open('probe', 'w') as file:
        file.write('x')
    return open('probe').read()
"""
PROBE_TESTS = "assert all(outside()), outside()\nassert inside() == 'x'"


class _Slots:
    """Servers, each made when first needed and again after it was lost."""

    def __init__(self, count: int, backend: Backend) -> None:
        self.backend = backend
        self.filled: list[tuple[float, float]] = []
        """When programs ran that took the room on a disk which all share: begin and end, by the monotonic clock."""
        self.free: queue.SimpleQueue[SandboxServer | None] = queue.SimpleQueue()
        for _ in range(count):
            self.free.put(None)

    def timed(self, program: Program) -> tuple[ProgramOutcome, float, float]:
        """The outcome of a program, and when it began and ended."""
        begun = time.monotonic()
        return self.run(program), begun, time.monotonic()

    def run(self, program: Program, alone: bool = False) -> ProgramOutcome:
        """The outcome of a program on whichever server is free; `alone` says that no other runs meanwhile."""
        outcome = ProgramOutcome(
            "failed", "not judged: the sandbox's process ended again and again", failure_override="harness_error"
        )
        for _ in range(ATTEMPTS):
            worker = self.free.get()
            lost = True
            try:
                worker = worker or SandboxServer(self.backend)
                begun = time.monotonic()
                outcome = worker.run(program, alone)
                lost = False
                if worker.filled:
                    self.filled.append((begun, time.monotonic()))
                if outcome.message not in KILLED:
                    return outcome
            except ServerLost:
                continue
            finally:
                if lost and worker is not None:
                    worker.close()
                self.free.put(None if lost else worker)
        return outcome

    def close(self) -> None:
        """End all servers that are at rest."""
        with suppress(queue.Empty):
            while True:
                worker = self.free.get_nowait()
                if worker is not None:
                    worker.close()


def run_programs(programs: Sequence[Program], workers: int, backend: Backend | None = None) -> list[ProgramOutcome]:
    """Outcomes in order; `workers` programs run at once and do not change them.

    What failed while the disk was full, or while another program filled it, is run again when all others have ended,
    alone.
    Raises SandboxError when nothing here confines programs and `backend` names none.
    """
    if not programs:
        return []
    sweep()
    count = max(1, min(workers, len(programs)))
    slots = _Slots(count, backend or choose())
    executor = ThreadPoolExecutor(count)
    try:
        timed = list(executor.map(slots.timed, programs))
        filled = list(slots.filled)
        return [
            slots.run(program, alone=True) if _doubtful(outcome, begun, ended, filled) else outcome
            for program, (outcome, begun, ended) in zip(programs, timed, strict=True)
        ]
    finally:
        executor.shutdown(cancel_futures=True)
        slots.close()


def _doubtful(outcome: ProgramOutcome, begun: float, ended: float, filled: list[tuple[float, float]]) -> bool:
    """Whether an outcome may be due to another program that took the room on a shared disk."""
    if outcome.status == "passed":
        return False
    return outcome.message == DISK_FULL or any(begun < end and start < ended for start, end in filled)


def run_program(program: Program, backend: Backend | None = None) -> ProgramOutcome:
    """The outcome of one program."""
    return run_programs([program], 1, backend)[0]


@lru_cache(maxsize=2)
def choose(unsafe: bool = False) -> Backend:
    """The best sandbox that was seen to work here; SandboxError where there is none and `unsafe` does not waive it."""
    return survey(unsafe)[0]


@lru_cache(maxsize=2)
def survey(unsafe: bool = False) -> tuple[Backend, str]:
    """The same, with the reason for it in words."""
    reasons: list[str] = []
    for backend, words in candidates():
        problem = trial(backend) if backend else words
        if backend and not problem:
            return backend, "; ".join([words, *reasons])
        reasons.append(problem)
    if unsafe:
        return Backend("none"), f"no sandbox, programs run with limits only ({'; '.join(reasons)})"
    raise SandboxError(f"no sandbox for generated programs works here: {'; '.join(reasons)}", ADVICE)


def trial(backend: Backend) -> str:
    """Why a backend does not confine; empty when it does: every forbidden act of a probe was refused."""
    try:
        with tempfile.NamedTemporaryFile(prefix="evalkit-canary-") as canary:
            source = f"CANARY = {canary.name!r}\n{PROBE}"
            outcome = run_program(Program(source, 10.0, tests=PROBE_TESTS), backend)
    except SandboxError as error:
        return error.message
    return "" if outcome.status == "passed" else f"{backend.name} does not confine: {outcome.result}"
