"""Answers of L-Eval's exams (protocol sheet: leval)."""

from __future__ import annotations

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

ANNOUNCED = "The answer is"


@STEPS.register("first_upper")
def first_upper(text: str, context: Context) -> str:
    """The first character that is an upper-case letter, in any script; empty without one."""
    return next((character for character in text if character.isupper()), "")


@STEPS.register("gsm100_answer")
def gsm100_answer(text: str, context: Context) -> str:
    """The digits of the first word with a digit behind the first "The answer is", split at single spaces.

    Published scores need the rule as it is: "3.50" gives 350, and a minus sign is lost.
    """
    behind = text.partition(ANNOUNCED)[2]
    word = next((w for w in behind.split(" ") if any(c.isdigit() for c in w)), "")
    return "".join(c for c in word if c.isdigit())


@STEPS.register("letters_of")
def letters_of(text: str, context: Context, among: str = "ABCD") -> str:
    """All letters `among` that stand anywhere, each once, sorted; the first of `among` where there is none.

    So L-Eval's own script reads answers with several letters.
    """
    found = "".join(sorted(set(text) & set(among)))
    return found or among[0]
