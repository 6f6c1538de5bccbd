"""The fork server: a warm interpreter whose children, one a program, are confined before they run anything.

It takes orders over a socket and never sees a program or its tests: they come as descriptors that are
handed on unread, so that no child inherits a word of another's. One order is worked on at a time.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from . import candidate, confine, session, tester
from .codec import Wire
from .watch import Child, Limits, Report, watch

WARM = (
    "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
    "hashlib", "heapq", "inspect", "io", "itertools", "json", "math", "operator", "random", "re", "statistics",
    "string", "tempfile", "textwrap", "time", "traceback", "typing", "collections.abc", "asyncio",
)  # fmt: skip
"""Imported once, for all programs."""
LIBRARIES = ("numpy", "pandas", "scipy", "sympy")
"""Imported once when an order names them."""
CPU_GRACE = 30
"""CPU seconds over its time after which the kernel ends a child, should this process not have done so."""
HEADER_BYTES = 1 << 16
MOST_DESCRIPTORS = 4
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


def main() -> None:
    """Serve until the other side hangs up. Arguments: the socket's descriptor, the setting as JSON."""
    control = socket.socket(fileno=int(sys.argv[1]))
    setting = Setting(**json.loads(sys.argv[2]))
    sys.path[:] = setting.path
    sys.argv[:] = [""]
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory runs out, the kernel takes programs first
    confine.hide()
    server = Server(control, setting)
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    control.send(json.dumps({"ready": os.getpid()}).encode())
    while server.serve():
        pass


class Server:
    """Forks, watches and cleans up."""

    def __init__(self, control: socket.socket, setting: Setting) -> None:
        self.control, self.setting = control, setting
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
            if name in LIBRARIES:
                with suppress(Exception):
                    importlib.import_module(name)
        limits = Limits(order["timeout"], order["memory"], order["session"])
        report = (self._session if order["session"] else self._judged)(limits, descriptors)
        with suppress(OSError):
            self.control.send(json.dumps(report.__dict__).encode())
        return report.stopped != "hung up"

    def _judged(self, limits: Limits, descriptors: list[int]) -> Report:
        """A program in one child, its tests in another."""
        source, tests, verdict = descriptors
        ours, theirs = socket.socketpair()

        def program() -> None:
            candidate.quiet()
            candidate.disarm()
            text = _text(source)
            candidate.Candidate(Wire(theirs)).run(text)

        def judge() -> None:
            order = json.loads(_text(tests))
            found = tester.run_tests(Wire(ours), order["given"], order["tests"], order["entry_point"])
            body = json.dumps(found).encode()
            os.write(verdict, body)

        children = [
            self._fork(program, limits, {source, theirs.fileno()}),
            self._fork(judge, limits, {tests, verdict, ours.fileno()}, hidden=True),
        ]
        for end in (ours, theirs):
            end.close()
        for descriptor in descriptors:
            os.close(descriptor)
        return watch(self.control, children, limits, self.setting.folder)

    def _session(self, limits: Limits, descriptors: list[int]) -> Report:
        """An interpreter that its owner talks to."""
        talk, output = descriptors

        def interpreter() -> None:
            session.run(Wire(socket.socket(fileno=talk)), output)

        child = self._fork(interpreter, limits, {talk, output})
        for descriptor in descriptors:
            os.close(descriptor)
        return watch(self.control, [child], limits, self.setting.folder)

    def _fork(self, work: Callable[[], None], limits: Limits, keep: set[int], hidden: bool = False) -> Child:
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
            self._prepare(limits, {*keep, write_end})
            os.write(write_end, b"r" + struct.pack("dd", time.process_time(), time.monotonic()))
            os.close(write_end)
            work()
        except BaseException as error:
            with suppress(BaseException):
                os.write(write_end, f"e{type(error).__name__}: {error}"[:1000].encode("utf-8", "replace"))
        finally:
            os._exit(0)

    def _prepare(self, limits: Limits, keep: set[int]) -> None:
        """The child's place, limits and rights."""
        os.dup2(1, 2)
        os.chdir(self.setting.folder)
        confine.limit(limits.memory, int(limits.timeout) + CPU_GRACE)
        if self.setting.confined:
            confine.confine(self.rules)
        edges = sorted({2, *keep})
        for low, high in zip(edges, [*edges[1:], MOST_OPEN], strict=True):
            os.closerange(low + 1, high)


def received(control: socket.socket) -> tuple[bytes, list[int]]:
    """A message and its descriptors; nothing when the other side hung up."""
    space = socket.CMSG_SPACE(MOST_DESCRIPTORS * 4)
    message, extra, _, _ = control.recvmsg(HEADER_BYTES, space)
    found = array.array("i")
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % 4])
    return message, list(found)


def _text(descriptor: int) -> str:
    """A file's whole text; the descriptor is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode("utf-8", "surrogatepass")
