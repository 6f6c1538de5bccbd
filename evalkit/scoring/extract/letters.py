"""Steps that read lists of option letters (protocol sheet: gaokao_bench)."""

from __future__ import annotations

import re

from evalkit.core.errors import ConfigError
from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

ANSWER = "【答案】"
# White space, colons, white space; written so that no run of white space is tried twice.
MARKED = re.compile(ANSWER + r"\s*(?:[:：]+\s*)?([A-Z])")
CAPITAL = re.compile(r"[A-Z]")
END = 10
"""Characters at the end that are read where no answer is marked."""


@STEPS.register("first_letters")
def first_letters(text: str, context: Context, among: str, count: int) -> list[str]:
    """The first `count` of the letters `among` that stand anywhere, capitals of words included."""
    return [letter for letter in text if letter in among][:count]


@STEPS.register("last_letters")
def last_letters(text: str, context: Context, among: str, count: int = 1) -> list[str]:
    """The last `count` of the letters `among` that stand anywhere, in the order of the text."""
    return [letter for letter in text if letter in among][-count:]


@STEPS.register("gaokao_combined")
def gaokao_combined(text: str, context: Context, among: str = "ABCD") -> list[str]:
    """All letters from the first `【答案】` to the end as one answer, such as `AC`; an empty list for none.

    Repeated letters and those of later explanations count. A mark at the very beginning is not seen, so
    published; without one the last ten characters are read. White space is removed first.
    """
    text = "".join(text.split())
    start = text.find(ANSWER)
    letters = "".join(letter for letter in (text[start:] if start > 0 else text[-END:]) if letter in among)
    return [letters] if letters else []


@STEPS.register("gaokao_each")
def gaokao_each(text: str, context: Context) -> list[str]:
    """One letter for each of several questions in one.

    As many letters are wanted as the gold has, or as `num_gold` of the context says. If just as many
    `【答案】X` are there, those letters; else the first capitals A to Z anywhere.
    """
    wanted = _wanted(context)
    marked = MARKED.findall(text)
    return marked if len(marked) == wanted else CAPITAL.findall(text)[:wanted]


def _wanted(context: Context) -> int:
    """The number of questions; ConfigError when it cannot be known."""
    gold, number = context.get("gold"), context.get("num_gold")
    if number is None and isinstance(gold, (list, tuple)):
        return len(gold)
    if number is None:
        raise ConfigError("gaokao_each needs the number of questions", "give num_gold=…, or the gold list")
    return int(number)
