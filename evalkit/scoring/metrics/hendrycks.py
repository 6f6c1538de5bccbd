"""Equivalence of final answers as the MATH benchmark defines it (protocol sheet: agieval)."""

from __future__ import annotations

import re

from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import Case, Metric, Values, each, mean_percent, right
from evalkit.scoring.metrics.equivalence import LONGEST, as_text, braced_fractions, slash_fraction
from evalkit.scoring.metrics.golds import text_or_number

REPLACED = (
    ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""),
)  # fmt: skip
SIGNS = (("\\%", ""), (" .", " 0."), ("{.", "{0."))
UNIT = "\\text{ "
ROOT = re.compile(r"\\sqrt([^{])")


@METRICS.register("hendrycks_equivalence")
def hendrycks_equivalence(name: str = "accuracy") -> Metric:
    """Percent of answers that equal the gold after the clean-up of MATH's own evaluation; None equals None."""

    def judge(case: Case) -> Values:
        return right(equal(case.answer, as_text(case.gold)))

    return Metric(name, each(judge), mean_percent(name), check_gold=lambda case: text_or_number(case.gold))


def equal(answer: str | None, gold: str | None) -> bool:
    """Whether two answers are the same after clean-up; as they are where one cannot be cleaned."""
    if answer is None or gold is None:
        return answer is gold
    if answer == gold:
        return True
    if max(len(answer), len(gold)) > LONGEST:
        return False
    try:
        return stripped(answer) == stripped(gold)
    except ValueError:
        return False


def stripped(answer: str) -> str:
    """An answer without units, spaces and LaTeX dress, fractions and roots in braces.

    ValueError where it has several units, or ends in a root of nothing.
    """
    text = answer
    for old, new in REPLACED:
        text = text.replace(old, new)
    text, *units = text.split(UNIT)
    if len(units) > 1:
        raise ValueError("several units")
    for old, new in SIGNS:
        text = text.replace(old, new)
    if not text:
        return text
    text = "0" + text if text.startswith(".") else text
    left, equals, value = text.partition("=")
    if equals and "=" not in value and len(left) <= 2:
        text = value
    if text.endswith("\\sqrt"):
        raise ValueError("a root of nothing")
    text = braced_fractions(ROOT.sub(r"\\sqrt{\1}", text).replace(" ", ""))
    if text == "0.5":
        return "\\frac{1}{2}"
    try:
        return slash_fraction(text)
    except ValueError:  # a slash between something else than whole numbers stays
        return text
