"""The fork server: a warm interpreter whose children, one a program, are confined before they run anything.

It takes orders over a socket and never sees a program or its tests: they come as descriptors that are
handed on unread, so that no child inherits a word of another's. One order is worked on at a time.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from . import candidate, confine, session, tester
from .codec import Wire
from .folder import FOLDER_BYTES, FOLDER_ENTRIES, SLACK_BYTES, SLACK_ENTRIES, Folder
from .orders import received, text_of
from .watch import Child, Judge, ProgramLimits, Report, watch

WARM = (
    "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
    "hashlib", "heapq", "inspect", "io", "itertools", "json", "math", "operator", "random", "re", "statistics",
    "string", "tempfile", "textwrap", "time", "traceback", "typing", "collections.abc", "multiprocessing",
)  # fmt: skip
"""Imported once, for all programs."""
LIBRARIES = {
    **{name: name for name in ("asyncio", "numpy", "pandas", "scipy", "sympy")},
    "matplotlib": "matplotlib.pyplot",
}
"""Imported once when an order names them, as that takes long."""
CPU_GRACE = 30
"""CPU seconds over its time after which the kernel ends a child, should this process not have done so."""
JUDGE_BYTES = 2 << 30
"""Address space of the tests' process."""
JUDGE_KEPT_BYTES = 512 << 20
"""Memory with which a tests' process goes on to the next program; one that holds more is replaced."""
MOST_OPEN = 1 << 16


@dataclass(frozen=True)
class Setting:
    """What the server was started for."""

    folder: str
    """The programs' temporary folder."""
    readable: tuple[str, ...]
    listable: tuple[str, ...]
    landlock: bool
    confined: bool
    """False: programs run with limits only, as any other process of the user."""
    path: tuple[str, ...]
    """sys.path of the programs."""
    counted: bool = False
    """Whether the folder is a file system of its own already."""


def main() -> None:
    """Serve until the other side hangs up. Arguments: the socket's descriptor, the setting as JSON."""
    control = socket.socket(fileno=int(sys.argv[1]))
    setting = Setting(**json.loads(sys.argv[2]))
    sys.path[:] = setting.path
    sys.argv[:] = [""]
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out, the kernel takes programs first
    own = setting.counted
    if setting.confined and not own:
        own = confine.mount_own(setting.folder, FOLDER_BYTES + SLACK_BYTES, FOLDER_ENTRIES + SLACK_ENTRIES)
    with suppress(ValueError, OSError):
        most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], MOST_OPEN)  # folders nested deeply are counted so
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    confine.hide()
    server = Server(control, setting, Folder(setting.folder, own))
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": os.getpid()}).encode())
    while server.serve():
        pass


class Server:
    """Forks, watches and cleans up."""

    def __init__(self, control: socket.socket, setting: Setting, folder: Folder) -> None:
        self.control, self.setting, self.folder = control, setting, folder
        self.judge: Judge | None = None
        self.rules: int | None = None
        if setting.confined and setting.landlock:
            devices = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
            confine.seccomp_program(confine.machine())
            self.rules = confine.landlock_ruleset(
                (*setting.readable, *devices), setting.listable, (setting.folder, "/dev/null")
            )

    def serve(self) -> bool:
        """Work on the next order; False when there will be none."""
        header, descriptors = received(self.control)
        if not header:
            return False
        order = json.loads(header)
        for name in order["libraries"]:
            with suppress(Exception):
                importlib.import_module(LIBRARIES[name])
        limits = ProgramLimits(order["timeout"], order["memory"], order["session"])
        report = (self._session if order["session"] else self._judged)(limits, descriptors)
        with suppress(OSError):
            self.control.send(json.dumps(report.__dict__).encode())
        return report.stopped != "hung up"

    def _judged(self, limits: ProgramLimits, descriptors: list[int]) -> Report:
        """A program in a child of its own, its tests in the judge."""
        source, tests, verdict = descriptors
        ours, theirs = socket.socketpair()

        def program() -> None:
            candidate.quiet()
            candidate.disarm(self.setting.folder)
            candidate.Candidate(Wire(theirs)).run(text_of(source))

        child = self._fork(program, limits.memory, int(limits.timeout) + CPU_GRACE, {source, theirs.fileno()})
        judge = self._judge()
        if not judge.problem:
            judge.order([tests, verdict, ours.fileno()])
        for end in (ours, theirs):
            end.close()
        for descriptor in descriptors:
            os.close(descriptor)
        child.problem = child.problem or judge.problem
        return watch(self.control, child, judge, limits, self.folder)

    def _judge(self) -> Judge:
        """The process for tests, a new one where the last has ended or grown."""
        if self.judge is not None and self.judge.resident() > JUDGE_KEPT_BYTES:
            self.judge.kill()
        if self.judge is None or self.judge.status is not None:
            ours, theirs = socket.socketpair()

            def serve() -> None:
                tester.serve(theirs)

            child = self._fork(serve, JUDGE_BYTES, None, {theirs.fileno()}, hidden=True)
            theirs.close()
            self.judge = Judge(child.pid, child.ready_fd, ours)
            self.judge.hear()
        return self.judge

    def _session(self, limits: ProgramLimits, descriptors: list[int]) -> Report:
        """An interpreter that its owner talks to."""
        talk, output = descriptors

        def interpreter() -> None:
            session.run(Wire(socket.socket(fileno=talk)), output)

        child = self._fork(interpreter, limits.memory, int(limits.timeout) + CPU_GRACE, {talk, output})
        for descriptor in descriptors:
            os.close(descriptor)
        return watch(self.control, child, None, limits, self.folder)

    def _fork(
        self, work: Callable[[], None], memory: int, cpu_seconds: int | None, keep: set[int], hidden: bool = False
    ) -> Child:
        """A child that is confined, says so, and works; it ends with this process."""
        parent = os.getpid()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write_end)
            return Child(pid, read_end)
        try:
            confine.die_with(parent)
            confine.hide(hidden)
            self._prepare(memory, cpu_seconds, {*keep, write_end})
            os.write(write_end, b"r" + struct.pack("dd", time.process_time(), time.monotonic()))
            os.close(write_end)
            work()
        except BaseException as error:
            with suppress(BaseException):
                os.write(write_end, f"e{type(error).__name__}: {error}"[:1000].encode("utf-8", "replace"))
        finally:
            os._exit(0)

    def _prepare(self, memory: int, cpu_seconds: int | None, keep: set[int]) -> None:
        """The child's place, limits and rights."""
        os.dup2(1, 2)
        os.chdir(self.setting.folder)
        confine.limit(memory, cpu_seconds)
        if self.setting.confined:
            confine.confine(self.rules)
        edges = sorted({2, *keep})
        for low, high in zip(edges, [*edges[1:], MOST_OPEN], strict=True):
            os.closerange(low + 1, high)
