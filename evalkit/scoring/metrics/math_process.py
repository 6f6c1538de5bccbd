"""Equality of mathematical answers by the math-verify library, in a process of its own.

The library needs another version of the parser runtime `antlr4` than latex2sympy2 1.9.1, which the published numbers of
TheoremQA were made with, so it is imported from a folder that only this process sees. Comparing two formulas can take
for ever; the kernel ends the process after `SECONDS` of processor time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS
from evalkit.scoring.extract.latex import LatexProcess
from evalkit.scoring.metrics.base import Case, Metric, Values, each, mean_percent, right
from evalkit.scoring.metrics.golds import shown, text_or_number

READY, NO_GOLD = "ready", "no gold"
SECONDS = 5.0
"""Processor time for one pair."""
MEMORY = 4 << 30
VERSION = "0.9.0"
FOLDER = "EVALKIT_MATH_VERIFY"
"""Variable that names the folder with the library; default: `math-verify` in the Python environment."""


@METRICS.register("math_verify")
def math_verify(name: str = "accuracy") -> Metric:
    """Percent of answers that the math-verify library takes for equal to the gold, as formulas and numbers.

    The library reads the answer out of the text it gets (`\\boxed{}`, `final answer is`, the last formula), so that no
    extraction step is needed. The gold is LaTeX, with or without `$`, or a text with `\\boxed{}`. A pair that takes
    longer than 5 seconds of processor time counts as unequal. For published MATH scores take their own metric.

    Example: answer `so we get $x = \\frac{2}{4}$`, gold `0.5`: equal.
    """

    def check(case: Case) -> str:
        fault = text_or_number(case.gold)
        return fault or (f"{shown(case.gold)} is no formula" if _equal("", str(case.gold)) == NO_GOLD else "")

    def judge(case: Case) -> Values:
        return right(_equal(str(case.answer), str(case.gold)) is True)

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


@lru_cache(maxsize=65536)
def _equal(answer: str, gold: str) -> bool | str:
    """The library's verdict, or `NO_GOLD`; false where there is none in time."""
    said = _process().ask(answer, gold)
    return said if said == NO_GOLD else said is True


@lru_cache(maxsize=1)
def _process() -> LatexProcess:
    return LatexProcess(_start)


def folder() -> Path:
    """Where the library is looked for before the environment itself."""
    return Path(os.environ.get(FOLDER) or Path(sys.prefix) / "math-verify")


def _start() -> subprocess.Popen[str]:
    paths = [str(folder()), *(p for p in sys.path if p)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from evalkit.scoring.metrics.math_child import main; main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    said = process.stdout.readline().strip() if process.stdout else ""
    if said != READY:
        process.kill()
        process.communicate()
        raise ConfigError(
            f"the metric math_verify needs the library math-verify: {said or 'its process ended'}",
            f"pip install --target {folder()} 'math-verify[antlr4_13_2]=={VERSION}' ({FOLDER} names another folder)",
        )
    return process
