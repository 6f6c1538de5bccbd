"""Steps that read a whole program out of an answer (protocol sheets: mbpp, lcbench)."""

from __future__ import annotations

import re
from collections import deque

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context
from evalkit.scoring.extract.code import FENCE, fenced, literal

BEGINS, DONES = (r"\[BEGIN\]", "BEGIN"), (r"\[DONE\]", "DONE")


def _rule(begin: str, end: str = "") -> tuple[re.Pattern[str], re.Pattern[str] | None]:
    return re.compile(begin), re.compile(f"(?={end})") if end else None


# What opens and what closes the program, in the order in which they are tried. A closing pattern
# looks ahead, so that the last of several overlapping places is found.
RULES = (
    *(_rule(begin + r"\s*'", r"'\s*" + done) for done in DONES for begin in BEGINS),
    *(_rule(begin + r"\s*'", done) for done in DONES for begin in BEGINS),
    *(_rule(begin, done) for done in DONES for begin in BEGINS),
    _rule(FENCE + "python", FENCE),
    _rule(FENCE, FENCE),
    _rule(FENCE + "python"),
    _rule(FENCE),
    _rule(r"\[BEGIN\]\s*'"),
    _rule(r"\[BEGIN\]"),
    _rule("'", r"'\s*\[DONE\]"),
)
QUOTED_DONE = re.compile(r"(?:'\s*)?(?:\[DONE\]|DONE)")
BEGIN_QUOTED = re.compile(r"(?:\[BEGIN\]|BEGIN)(?:'\s*)?")
PYTHON_FENCE = re.compile(r"```python(.*?)```", re.DOTALL)


@STEPS.register("mbpp_program")
def mbpp_program(text: str, context: Context) -> str:
    """The program in an answer to an MBPP task (protocol sheet: mbpp).

    The first rule that finds its marks decides: from its first opening mark to its last closing mark.
    What follows a fence or any `DONE`, also one inside the code, is cut off. The sheet's rule for
    text before a fence has no case left when its turn comes.
    """
    found = (_between(text, begin, end) for begin, end in RULES)
    text = next((part for part in found if part is not None), text)
    return _before_done(text.partition(FENCE)[0]).replace(r"\_", "_").strip()


@STEPS.register("lcbench_program")
def lcbench_program(text: str, context: Context) -> str:
    """The program in an answer to an LCBench task (protocol sheet: lcbench, T rule).

    The first fenced block, then what stands between BEGIN and DONE, without quotes around it. All
    backslashes are deleted, those of the code included. The reference evaluates the text as Python
    first; here only string literals are.
    """
    text = QUOTED_DONE.split(fenced(literal(text)).strip(), maxsplit=1)[0]
    begun = BEGIN_QUOTED.search(text)
    text = (text[begun.end() :] if begun else text).strip()
    text = text.removeprefix("'").removesuffix("'").replace("\\", "")
    again = PYTHON_FENCE.search(text)
    return again[1].strip() if again else text


def _between(text: str, begin: re.Pattern[str], end: re.Pattern[str] | None) -> str | None:
    """From the first opening mark to the last closing mark behind it, or to the end; None where a mark is missing.

    No later opening mark can do better: what closes behind it closes behind the first one too.
    """
    begun = begin.search(text)
    if begun is None:
        return None
    if end is None:
        return text[begun.end() :]
    last = deque(end.finditer(text, begun.end()), maxlen=1)
    return text[begun.end() : last[0].start()] if last else None


def _before_done(text: str) -> str:
    """The text before the first DONE, the bracket, white space and quote next to it left out.

    A pattern for this would take quadratic time on long white space.
    """
    place = text.find("DONE")
    return text if place < 0 else text[:place].removesuffix("[").rstrip().removesuffix("'")
