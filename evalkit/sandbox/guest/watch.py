"""Watches the children of one order: time, files, ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .folder import FOLDER_BYTES, Folder
from .orders import LOST

HUNG_UP = -1
FAREWELL_SECONDS = 0.5
"""Time to end for a program that has closed its socket."""
FINISH_SECONDS = 5.0
"""Time for the verdict once the program has ended."""
TICK_SECONDS = 0.02
STOP_SECONDS = 0.005
"""Time in which all threads of a process have come to a stop."""
IDLE_GRACE = 1.0
"""Seconds over its time that a program may spend neither computing nor waiting for a core."""
TESTS_GRACE = 10.0
"""CPU seconds over the program's time that the tests may take."""
BUSY_FACTOR, BUSY_SECONDS = 20, 60
"""Wall time, in limits and besides, after which a program is given up that the machine hardly runs."""
PAGE = os.sysconf("SC_PAGE_SIZE")
READY = struct.calcsize("dd")


@dataclass(frozen=True)
class ProgramLimits:
    """What a program may use."""

    timeout: float
    """CPU seconds."""
    memory: int
    """Bytes of address space."""
    session: bool = False


@dataclass(frozen=True)
class Report:
    """What became of an order's children."""

    stopped: str
    """Why they were ended: "" not at all, `timeout`, `files`, `full` (the disk), `busy`, `setup`, `ended` by the owner,
    `hung up`."""
    cpu: float
    """CPU seconds that the program took, from its first line on."""
    status: int
    """Of the program's process, as of waitpid; HUNG_UP for one that was there to the end."""
    message: str = ""
    counted: bool = True
    """Whether the program wrote to a file system of its own, and so could not lack room through others."""


class Child:
    """A process at work."""

    def __init__(self, pid: int, ready_fd: int) -> None:
        self.pid, self.ready_fd = pid, ready_fd
        self.handle = -1
        self.cpu_at_start = self.starved_at_start = self.cpu_total = 0.0
        self.started = 0.0
        """When it was ready, by the monotonic clock; 0 before."""
        self.problem = ""
        self.status: int | None = None
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self.handle = os.pidfd_open(pid)

    def hear(self) -> None:
        """Read what it says about itself before its work begins."""
        word = os.read(self.ready_fd, 1024)
        if word[:1] == b"r" and len(word) >= 1 + READY:
            self.cpu_at_start, self.started = struct.unpack("dd", word[1 : 1 + READY])
        else:
            self.problem = word[1:].decode("utf-8", "replace") or "it ended before it began"
        os.close(self.ready_fd)
        self.ready_fd = -1

    def cpu(self) -> float:
        """CPU seconds since it was ready, of all its threads; 0 where a running process does not tell."""
        if self.status is not None or not self.started:
            return max(0.0, self.cpu_total - self.cpu_at_start)
        with suppress(OSError):
            return max(0.0, time.clock_gettime((~self.pid) << 3 | 2) - self.cpu_at_start)
        return 0.0

    def starved(self) -> float:
        """Seconds that it waited for a core, as far as the system tells."""
        with suppress(OSError, IndexError, ValueError), open(f"/proc/{self.pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9 - self.starved_at_start
        return 0.0

    def begin(self) -> None:
        """Count its time from now on."""
        self.cpu_at_start += self.cpu()
        self.starved_at_start += self.starved()

    def ended(self) -> bool:
        """Whether it is gone; then its time is known exactly."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._reaped(status, usage)
        return self.status is not None

    def wait(self, seconds: float) -> None:
        """Let it end by itself."""
        until = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < until:
            time.sleep(0.001)

    def kill(self) -> None:
        """End it, now."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
            self._reaped(status, usage)
        for descriptor in (self.ready_fd, self.handle):
            if descriptor >= 0:
                os.close(descriptor)
        self.ready_fd = self.handle = -1

    def _reaped(self, status: int, usage: Any) -> None:
        self.cpu_total = usage.ru_utime + usage.ru_stime
        self.status = status


class Judge(Child):
    """The process that runs the tests, program after program."""

    def __init__(self, pid: int, ready_fd: int, channel: socket.socket) -> None:
        super().__init__(pid, ready_fd)
        self.channel = channel
        self.done = True
        """Whether it has written the verdict of the last order."""
        self.lost = False
        """Whether that says that the program's process was gone."""

    def order(self, descriptors: list[int]) -> None:
        """Give it the tests, a pipe for the verdict, and the socket to the program."""
        self.begin()
        self.done = False
        with suppress(OSError):
            socket.send_fds(self.channel, [b"o"], descriptors)

    def listen(self) -> None:
        """Note that it is done; one that hangs up has ended."""
        word = b""
        with suppress(OSError):
            word = self.channel.recv(16)
        self.done, self.lost = bool(word), word == LOST
        if not self.done:
            self.kill()

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        with suppress(OSError, IndexError, ValueError), open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * PAGE
        return 0

    def finish(self) -> None:
        """Wait for the verdict of an order whose program has ended; end it when it gives none."""
        if not self.done and self.status is None:
            select.select([self.channel], [], [], FINISH_SECONDS)
            if not select.select([self.channel], [], [], 0)[0]:
                self.kill()
            else:
                self.listen()

    def kill(self) -> None:
        """End it, now."""
        super().kill()
        self.channel.close()


class _Watch:
    """The state of one order."""

    def __init__(
        self, control: socket.socket, program: Child, judge: Judge | None, limits: ProgramLimits, folder: Folder
    ) -> None:
        self.control, self.program, self.judge, self.folder = control, program, judge, folder
        self.room = folder.room()
        """Bytes that were free when this was last looked at."""
        self.stopped = ""
        self.session = limits.session
        self.allowed = float("inf") if limits.session else limits.timeout
        """CPU seconds that the program, or a session's cell, may take from `cpu_before` on."""
        self.cpu_before = self.starved_before = self.since = 0.0
        self.interrupted = self.starved_at_interrupt = 0.0

    def over(self) -> bool:
        """Whether the order is done: by the judge's word, or at a session's end."""
        if self.judge is None:
            return self.program.ended()
        return self.judge.done or self.judge.status is not None

    def step(self) -> None:
        """Wait for a moment or an event, and look."""
        fds = [self.control.fileno(), self.program.ready_fd]
        fds.append(self.program.handle if self.judge is None else self.judge.channel.fileno())
        for fd in select.select([fd for fd in fds if fd >= 0], [], [], TICK_SECONDS)[0]:
            if fd == self.control.fileno():
                self._told()
            elif fd == self.program.ready_fd:
                self.program.hear()
            elif self.judge is not None:
                self.judge.listen()
        self._look()

    def _told(self) -> None:
        """An order's owner hangs up, ends a session, or gives a cell its time."""
        message = self.control.recv(4096)
        if not message:
            self.stopped = "hung up"
            return
        word = json.loads(message)
        if "cell" in word:  # seconds for the cell that begins; none when one has ended
            self.allowed = float("inf") if word["cell"] is None else word["cell"]
            self.cpu_before, self.starved_before = self.program.cpu(), self.program.starved()
            self.since, self.interrupted = time.monotonic(), 0.0
        else:
            self.stopped = "ended"

    def _look(self) -> None:
        if self.program.problem:
            self.stopped = self.stopped or "setup"
        elif not self.stopped and self.program.started:
            self.stopped = self._excess()

    def _excess(self) -> str:
        """Why the program must stop, if it must."""
        if self.program.cpu() - self.cpu_before >= self.allowed or self._idle_too_long():
            return self._interrupt(self.program) if self.session else "timeout"
        if self.judge is not None and self.judge.cpu() >= self.allowed + TESTS_GRACE:
            return "timeout"
        return self.disk_excess()

    def disk_excess(self) -> str:
        """Why the program must stop for what it wrote, or because nobody can write any more."""
        if self.folder.overfull(self.program.pid) or self._hides_files():
            return "files"
        return "full" if self.folder.disk_full() else ""

    def _hides_files(self) -> bool:
        """Whether room is gone that a count did not see: a program may move its files about meanwhile.

        It is counted once more while the program stands still.
        """
        if self.folder.counted or self.room - self.folder.room() <= FOLDER_BYTES or self.program.status is not None:
            return False
        os.kill(self.program.pid, signal.SIGSTOP)
        time.sleep(STOP_SECONDS)
        found = self.folder.overfull(self.program.pid)
        self.room = self.folder.room()
        os.kill(self.program.pid, signal.SIGCONT)
        return found

    def _idle_too_long(self) -> bool:
        """Whether more wall time is gone than waiting for a core, and for the tests, explains."""
        wall = time.monotonic() - max(self.since, self.program.started)
        lost = self.program.starved() - self.starved_before
        if self.judge is not None:
            lost += self.judge.starved() + self.judge.cpu()
        return wall - lost >= self.allowed + IDLE_GRACE

    def _interrupt(self, program: Child) -> str:
        """First a KeyboardInterrupt, then the end."""
        if not self.interrupted:
            self.interrupted, self.starved_at_interrupt = time.monotonic(), program.starved()
            os.kill(program.pid, signal.SIGINT)
            with suppress(OSError):
                self.control.send(b'{"interrupted": true}')
        waited = program.starved() - self.starved_at_interrupt
        return "timeout" if time.monotonic() - self.interrupted - waited > IDLE_GRACE else ""


def watch(control: socket.socket, program: Child, judge: Judge | None, limits: ProgramLimits, folder: Folder) -> Report:
    """Follow an order to its end and leave nothing of its program."""
    state = _Watch(control, program, judge, limits, folder)
    begun = time.monotonic()
    while not state.stopped and not state.over():
        state.step()
        if not limits.session and time.monotonic() - begun > limits.timeout * BUSY_FACTOR + BUSY_SECONDS:
            state.stopped = "busy"
    if judge is not None and judge.lost:
        program.wait(FAREWELL_SECONDS)  # distinguishes its own exit from our kill
    if not state.stopped and not program.problem:
        state.stopped = state.disk_excess()  # while it still holds what it holds
    alive = not program.ended()
    if program.ready_fd >= 0 and program.status is not None:
        program.hear()
    program.kill()
    if judge is not None:
        judge.finish()
    folder.wipe()
    stopped = "setup" if program.problem else state.stopped
    return Report(stopped, program.cpu(), HUNG_UP if alive else program.status or 0, program.problem, folder.counted)
