"""TheoremQA's answers (protocol sheet: theoremqa).

Copied with its oddities: "no" anywhere in the answer, as in "unknown" or "5 nodes", makes it False.
"""

from __future__ import annotations

import re

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context
from evalkit.scoring.extract.latex import evaluated

TRIGGERS = ("The answer is:", "The answer is", "the answer is")
TRIGGER = re.compile("|".join(TRIGGERS))
OPTIONS = ("(a)", "(b)", "(c)", "(d)", "(e)", "(f)")
LONE_PI, COUNTED_PI = re.compile(r"(?<![\d}])\\?π"), re.compile(r"(\d)\\?π")
BRACED_PI, MULTIPLIED_PI = re.compile(r"\{\\?π\}"), re.compile(r"\*\\?π")
SYMBOLS = ("$", "¥", "°C", " C", "°")
NUMBER_AND_UNIT = re.compile(r"-?[\d.]+\s(?:\D+|\S+)$")
NUMBERS = re.compile(r"-?\d*\.?\d+")


@STEPS.register("theoremqa_answer")
def theoremqa_answer(text: str, context: Context) -> str:
    """The answer behind the last "the answer is", or the last number where it is not said (CLEAN of the sheet).

    A text that says it twice goes on into further problems: only its part before the first blank line counts.
    """
    text = text.strip("\n")
    if any(text.count(trigger) > 1 for trigger in TRIGGERS):
        text = text.split("\n\n")[0]
    pieces = TRIGGER.split(text)
    answer = pieces[-1].strip("\n").rstrip(".").rstrip("/").strip(" ")
    return _answer(answer, announced=len(pieces) > 1).rstrip(".").rstrip("/")


def _answer(text: str, announced: bool) -> str:
    low = text.lower()
    if "yes" in low or "true" in low:
        return "True"
    if "no" in low or "false" in low:
        return "False"
    if any(option in low for option in OPTIONS):
        return text
    return _value(text) if announced else _last_number(text)


def _value(text: str) -> str:
    """The value of a formula, else a number without its unit, else the text."""
    text = without_units(text.split("=")[-1].strip())
    value = evaluated(text)
    if value is not None:
        return value
    return text.split(" ")[0] if NUMBER_AND_UNIT.match(text) else text


def _last_number(text: str) -> str:
    found = NUMBERS.findall(text)
    return found[-1] if found else ""


def without_units(text: str) -> str:
    """Pi as 3.14, percent as hundredths, without signs of currency and degrees (UNITS of the sheet)."""
    text = LONE_PI.sub("3.14", text.replace("\\pi", "π"))
    text = COUNTED_PI.sub(r"\1*3.14", text)
    text = MULTIPLIED_PI.sub("*3.14", BRACED_PI.sub("3.14", text)).replace("%", "/100")
    for symbol in SYMBOLS:
        text = text.replace(symbol, "")
    return text
