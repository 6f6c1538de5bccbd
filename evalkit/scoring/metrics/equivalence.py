"""Whether two final answers in LaTeX say the same (protocol sheet: math).

Answers are compared as texts after clean-up; nothing is computed, so 0.5 is not `\\frac{1}{2}`. The clean-up
takes time in proportion to the length of the answers and answers beyond `LONGEST` are compared as they
are, which bounds the time of every pair: nothing that a model writes can hang the scoring.
"""

from __future__ import annotations

import re
from typing import Any

from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.registry import METRICS
from evalkit.scoring.extract import extract
from evalkit.scoring.extract.boxed import normalised
from evalkit.scoring.metrics.base import Case, Metric, Values, each, mean_percent, right
from evalkit.scoring.metrics.golds import is_number, text_or_number

LONGEST = 100_000
"""Characters. No output limit in use lets a model write so much; a pair so long takes some hundredths of a second."""
WHOLE_THEN_MORE = re.compile(r"(?<=\d)\.0+([^\d])")
WHOLE_AT_END = re.compile(r"(?<=\d)\.0+$")
ROOT = re.compile(r"\\sqrt(\w+)")

EARLY = (("\\!", ""), ("\\ ", ""), ("\\\\", "\\"), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"),
         ("\\left", ""), ("\\right", ""))  # fmt: skip
SIGNS = (("\\$", ""), ("$", ""), ("\\text", ""), ("x\\in", ""), ("\\%", ""), ("%", ""), (" .", " 0."), ("{.", "{0."),
         ("\\cdot", ""), ("infinity", "\\infty"))  # fmt: skip


@METRICS.register("math_equivalence")
def math_equivalence(gold: Any = (), name: str = "accuracy") -> Metric:
    """Percent of answers that are equivalent to the gold; `gold` names extraction steps that read it first."""
    steps = parse_calls(gold)
    check_steps(steps)

    def read(case: Case) -> Any:
        return as_text(extract(as_text(case.gold), steps, case.context))

    def check(case: Case) -> str:
        fault = text_or_number(case.gold) or text_or_number(read(case))
        return f"{fault} ({', '.join(step.name for step in steps)} of the gold)" if fault and steps else fault

    def judge(case: Case) -> Values:
        return right(equivalent(case.answer, read(case)))

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


def as_text(gold: Any) -> Any:
    """A number as the text that would be written for it; anything else as it is."""
    return str(gold) if is_number(gold) else gold


def equivalent(answer: str | None, gold: str | None) -> bool:
    """Whether two answers are the same after clean-up; None equals None only."""
    if answer is None or gold is None:
        return answer is gold
    if answer == gold:
        return True
    if max(len(answer), len(gold)) > LONGEST:
        return False
    try:
        one, other = stripped(answer), stripped(gold)
    except ValueError:  # a slash with something else than whole numbers around: stripping is given up
        return normalised(answer) == normalised(gold)
    return one == other or normalised(one) == normalised(other) or normalised(answer) == normalised(gold)


def stripped(answer: str) -> str:
    """An answer without spaces, units, signs and shorthand (STRIP of the sheet, "v2").

    ValueError when it has one slash that is not between whole numbers.
    """
    text = _replaced(answer.strip().replace("\n", "").rstrip("."), EARLY)
    text = _without_unit(text)
    text = text.replace("^{\\circ}", "").strip().replace("^\\circ", "").strip()
    text = _replaced(text, SIGNS)
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    text = _without_mbox(text.replace("+\\inity", "\\infty").replace("and", "").replace("\\mathbf", ""))
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = WHOLE_AT_END.sub("", WHOLE_THEN_MORE.sub(r"\1", text))
    if not text:
        return text
    text = "0" + text if text.startswith(".") else text
    left, equals, value = text.partition("=")
    if equals and "=" not in value and len(left) <= 2:
        text = value
    text = ROOT.sub(r"\\sqrt{\1}", text).replace(" ", "")
    return slash_fraction(braced_fractions(text))


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _without_unit(text: str) -> str:
    """Without all from the first `\\text{` on, where the text ends in `}` and something is left."""
    start = text.find("\\text{")
    if start < 0 or not text.endswith("}"):
        return text
    return text[:start].strip() or text


def _without_mbox(text: str) -> str:
    """Without every `\\mbox{…}` up to its nearest `}`."""
    parts: list[str] = []
    place = 0
    while (start := text.find("\\mbox{", place)) >= 0 and (end := text.find("}", start)) >= 0:
        parts.append(text[place:start])
        place = end + 1
    return "".join(parts) + text[place:]


def braced_fractions(text: str) -> str:
    """`\\frac12` and `\\frac1{2}` as `\\frac{1}{2}`; the text unchanged where a `\\frac` has too little behind it."""
    head, *rest = text.split("\\frac")
    made = [head]
    for part in rest:
        if part.startswith("{"):
            made.append(part)
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            made.append("{" + part[0] + "}" + part[1:])
        else:
            made.append("{" + part[0] + "}{" + part[1] + "}" + part[2:])
    return "\\frac".join(made)


def slash_fraction(text: str) -> str:
    """`1/2` as `\\frac{1}{2}`; ValueError when the sides of a single slash are no whole numbers."""
    sides = text.split("/")
    if len(sides) != 2:
        return text
    above, below = (int(side) for side in sides)
    return f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
