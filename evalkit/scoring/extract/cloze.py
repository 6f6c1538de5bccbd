"""The answer of a mathematical cloze (protocol sheet: agieval).

The rules are copied with their oddities, as published scores depend on them: a bare `-3` gives 3, `1,000` gives 000.
"""

from __future__ import annotations

import re

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context
from evalkit.scoring.extract.boxed import BOXED, boxed_answer

PREFIXES = ("The answer is therefore", "答案是")
"""The beginnings of AGIEval's few-shot answers."""
IN_DOLLARS = re.compile(r"\$(.*)\$")
# `\$?\d+(\.\d+)?(?!\w)`, written so that a run of digits is tried once.
NUMBER = re.compile(r"(?:\$|(?<!\d))\d++(?:\.\d++(?!\w)|(?!\w))")


@STEPS.register("agieval_cloze")
def agieval_cloze(text: str, context: Context) -> str | None:
    """What a cloze is answered with; None where there is nothing.

    Behind the last few-shot prefix, if there is one: the last `\\boxed{…}`, else the last `$…$` of a line, both behind
    their last `=`; else all behind the last `=`; else the last number, without a sign.
    """
    for prefix in PREFIXES:
        if prefix in text:
            text = text.rpartition(prefix)[2].strip()
            break
    if BOXED in text:
        boxed = boxed_answer(text, context)
        return None if boxed is None else _right_side(boxed)
    in_dollars = IN_DOLLARS.findall(text)
    if in_dollars and in_dollars[-1]:
        return _right_side(in_dollars[-1])
    if "=" in text:
        return _right_side(text).rstrip(".").partition("\\n")[0]
    numbers = NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _right_side(text: str) -> str:
    """What follows the last `=`; the text as it is where there is none."""
    return text.rpartition("=")[2].lstrip(" ") if "=" in text else text
