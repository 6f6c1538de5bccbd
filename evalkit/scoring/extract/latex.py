"""The value of a formula in LaTeX, by the parser that the published numbers were made with (protocol sheet: theoremqa).

The parser, latex2sympy2 1.9.1, and Python's own arithmetic can take for ever or all memory over a few
characters, such as `9^{9^{9}}`, and cannot be interrupted in a thread. They work in a process of their own,
which the kernel ends after `SECONDS` of processor time; the next formula starts a new one. As it is processor
time that counts, a busy machine gives the same values as an idle one.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evalkit.core.errors import ConfigError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

EVALUATE, NUMBER = "evaluate", "number"
"""What can be asked about a formula."""
READY = "ready"
SECONDS = 1.0
"""Processor time for one formula."""
MEMORY = 4 << 30
"""Address space of the process, in bytes."""


class LatexProcess:
    """The process that reads formulas, started when the first one comes."""

    def __init__(self, start: Callable[[], subprocess.Popen[str]] | None = None) -> None:
        self._start = start or _start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, first: str, second: str) -> Any:
        """The process' answer to two texts, here operation and formula; None where it gives none in time."""
        with self._lock:
            process = self._running()
            try:
                print(json.dumps([first, second]), file=process.stdin, flush=True)
                line = process.stdout.readline() if process.stdout else ""
            except BrokenPipeError:
                line = ""
            if line:
                return json.loads(line)
            self._stop(process)
            return None

    def _running(self) -> subprocess.Popen[str]:
        """The live process; after a fork of ours a new one, as two must not share its pipes."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process, self._owner = self._start(), os.getpid()
        return self._process

    def _stop(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()
        self._process = None


def _start() -> subprocess.Popen[str]:
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-c", "from evalkit.scoring.extract.latex_child import main; main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    said = process.stdout.readline().strip() if process.stdout else ""
    if said != READY:
        process.kill()
        process.communicate()
        raise ConfigError(f"formulas cannot be read: {said or 'the process ended'}", "pip install latex2sympy2==1.9.1")
    return process


@lru_cache(maxsize=1)
def _latex() -> LatexProcess:
    return LatexProcess()


@lru_cache(maxsize=4096)
def evaluated(text: str) -> str | None:
    """The value of a formula as Python prints it (`\\frac{1}{2}` gives `0.5`, `1, 2` gives `[1, 2]`).

    Only plain arithmetic has a value: None for a formula with a name or a function, such as `\\sqrt{2}`.
    """
    value = _latex().ask(EVALUATE, text)
    return None if value is None else str(value)


@lru_cache(maxsize=4096)
def number(text: str) -> int | float | None:
    """The number that a formula, or else a Python expression, gives; of a list the first.

    Roots, sines, cosines, logarithms, factorials and exponentials are computed; E counts as 2.718.
    """
    value = _latex().ask(NUMBER, text)
    return value if isinstance(value, (int, float)) else None
