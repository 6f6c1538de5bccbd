"""The process behind `math_verify`: reads `[answer, gold]` a line and says whether they are equal, as JSON.

Answers: true, false, or `NO_GOLD` where the gold is no formula.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from importlib import import_module
from typing import Any

from evalkit.scoring.metrics.math_process import MEMORY, NO_GOLD, READY, SECONDS


def verdict(library: Any, answer: str, gold: str) -> bool | str:
    """Whether the library takes an answer for the gold."""
    wanted = library.parse(gold, parsing_timeout=None) if "$" in gold or "\\boxed" in gold else []
    wanted = wanted or library.parse(f"${gold}$", parsing_timeout=None)
    if not wanted:
        return NO_GOLD
    given = library.parse(answer, parsing_timeout=None) or library.parse(f"${answer}$", parsing_timeout=None)
    return bool(given) and bool(library.verify(wanted, given, timeout_seconds=None))


def main() -> None:
    """Answer until the input ends. SIGPROF, which the timer sends, ends the process: that is its default."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    try:
        library = import_module("math_verify")  # lies in a folder of its own, beside the packages of evalkit
    except ImportError as error:
        print(error, file=answers)
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print(READY, file=answers)
    for line in sys.stdin:
        answer, gold = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            said: bool | str = verdict(library, answer, gold)
        except Exception:  # sympy raises whatever it meets; such an answer is not shown to be equal
            said = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(said), file=answers)
