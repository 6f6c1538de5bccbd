"""The final answer of a worked solution in LaTeX (protocol sheet: math).

The rules are copied with their oddities, as published scores depend on them: `\\left` loses its letters,
"ft" goes from inside of words, "the answer is 3.5" gives 3. Every function here takes time in proportion
to the length of its text, whatever the text: searches that could start anew at each of many openers are
done by hand.
"""

from __future__ import annotations

import re

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

BOXED, FRAMED = "\\boxed", "\\fbox"
BRACE = re.compile(r"[{}]")
IN_BRACES = re.compile(r"\{(.*)\}$")
ANNOUNCED = re.compile("final answer|answer is")

REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"), ("\\le", "<"),
)  # fmt: skip
"""Replaced everywhere, one after the other."""
REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue", "points",
    "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students",
    "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}",
    "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots", "\n", "\r", "\f",
)  # fmt: skip
"""Removed everywhere, one after the other. "childrentickets" is two words that a missing comma joined."""
ANSWER_IS = re.compile(r"answer?is:?")
SHORT_FRACTION = re.compile(r"frac([^{])(.)")
SHORT_ROOT = re.compile(r"sqrt([^{])")


@STEPS.register("boxed_answer")
def boxed_answer(text: str, context: Context) -> str | None:
    """What the last `\\boxed{…}` holds, up to its matching brace; None where there is none.

    Only without any `\\boxed` the last `\\fbox` is looked at, and it gives None, as does `\\boxed 5`.
    """
    start = text.rfind(BOXED)
    start = text.rfind(FRAMED) if start < 0 else start
    end = _matching_brace(text, start) if start >= 0 else -1
    opener = BOXED + "{"
    return text[start + len(opener) : end] if end >= 0 and text.startswith(opener, start) else None


@STEPS.register("math_answer")
def math_answer(text: str, context: Context) -> str:
    """The boxed answer as it is, less one further pair of braces; else the normalised final sentence.

    That is the first piece between full stops with "final answer" or "answer is", or else the first piece.
    """
    boxed = boxed_answer(text, context)
    if boxed is not None:
        inner = IN_BRACES.match(boxed)
        boxed = inner[1] if inner else boxed
    if boxed:
        return boxed
    pieces = text.split(".")
    return normalised(next((p for p in pieces if ANNOUNCED.search(p.lower())), pieces[0]))


@STEPS.register("final_answer_sentence")
def final_answer_sentence(text: str, context: Context) -> str:
    """The normalised first piece between full stops that has "final answer" in it, or else the first piece."""
    pieces = text.split(".")
    return normalised(next((p for p in pieces if "final answer" in p.lower()), pieces[0]))


def normalised(answer: str) -> str:
    """A final answer without units, LaTeX dress and thousands separators (NORM of the sheet)."""
    for old, new in REPLACED:
        answer = answer.replace(old, new)
    for expression in REMOVED:
        answer = answer.replace(expression, "")
    for opener, closer in (("\\text{(", ")}"), ("\\text{", "}"), ("\\textbf{", "}"), ("\\overline{", "}")):
        answer = _unwrapped(answer, opener, closer)
    answer = _named(_unboxed(answer)).strip()
    if "rac" in answer and "\\frac" not in answer:
        answer = answer.replace("rac", "\\frac")
    answer = SHORT_FRACTION.sub(r"frac{\1}{\2}", answer)
    answer = SHORT_ROOT.sub(r"sqrt{\1}", answer).replace("$", "")
    bare = answer.replace(",", "")
    return bare if bare.isdigit() else answer


def _matching_brace(text: str, start: int) -> int:
    """Place of the first `}` behind `start` with as many `{` as `}` up to it; -1 without one."""
    opened = 0
    for brace in BRACE.finditer(text, start):
        opened += 1 if brace[0] == "{" else -1
        if opened == 0 and brace[0] == "}":
            return brace.start()
    return -1


def _unwrapped(text: str, opener: str, closer: str) -> str:
    """Every `opener…closer` replaced by what it holds, up to the nearest closer."""
    parts: list[str] = []
    place = 0
    while (start := text.find(opener, place)) >= 0:
        inside = start + len(opener)
        end = text.find(closer, inside)
        if end < 0:  # nor does a later opener find one
            break
        parts += [text[place:start], text[inside:end]]
        place = end + len(closer)
    return "".join(parts) + text[place:]


def _unboxed(text: str) -> str:
    """The first `\\boxed{` unwrapped together with the last `}` of the text."""
    start = text.find("\\boxed{")
    inside = start + len("\\boxed{")
    end = text.rfind("}", inside) if start >= 0 else -1
    return text[:start] + text[inside:end] + text[end + 1 :] if end >= 0 else text


def _named(text: str) -> str:
    """What is announced or marked as the answer, by four marks in turn; the text where none is."""
    _, mark, rest = text.partition("finalansweris")
    text = rest if mark else text
    announced = ANSWER_IS.search(text)
    text = text[announced.end() :] if announced else text
    for opener, closer in (("oxed{", "}"), ("$", "$")):
        text = _last_within(text, opener, closer, text)
    return text


def _last_within(text: str, opener: str, closer: str, none: str) -> str:
    """What the last of the successive `opener…closer` holds, or `none`."""
    found, place = none, 0
    while (start := text.find(opener, place)) >= 0:
        inside = start + len(opener)
        end = text.find(closer, inside)
        if end < 0:
            break
        found, place = text[inside:end], end + len(closer)
    return found
