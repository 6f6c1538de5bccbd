"""Verdicts in the replies of judges, and texts that cannot pass for one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.records import Reply
from evalkit.core.registry import did_you_mean

Read = Callable[[Reply], float | str | None]
"""The verdict in a reply; None where there is none."""
RATING = re.compile(r"Rating:\s*\[\[([\d.]+)\]\]")
CHOICE = re.compile(r"\[([A-C]+)\]")
ARENA = re.compile(r"\[\[([AB<>=]+)\]\]")
GROUP = re.compile(r"\{[^{}]*\}(?![^{]*\{)", re.DOTALL)
PAIR = re.compile(r"['\"]([^'\"]+)['\"]\s*[:：]\s*(\d+)")
JUDGED = re.compile(r"\b(incorrect|correct)\b", re.IGNORECASE)
OVERALL = "综合得分"
DIMENSIONS = frozenset(
    ("事实正确性", "满足用户需求", "安全无害", "清晰度", "逻辑性", "完备性", "创造性", "可负责程度", "逻辑连贯性",
     "公平与可负责程度", "丰富度", OVERALL)
)  # fmt: skip
TELLING = (("清晰度", "完备性"), ("完备性", "逻辑连贯性"), ("创造性", "丰富度"), ("创造性", "公平与可负责程度"))
"""Dimensions that together tell which kind of answers was judged."""
PREFERENCES = {"A": 1.0, "B": 0.0, "C": 0.5}
ARENA_VALUES = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B=A": 0.5, "B>A": 0.0, "B>>A": 0.0}


@dataclass(frozen=True)
class Form:
    """One form of verdicts."""

    read: Read
    """Reads a reply: a grade, or how far the first answer is preferred (1, 0.5 or 0)."""
    pattern: re.Pattern[str] | None
    """What a judged text must not hold, as a judge that quotes it would seem to have given a verdict."""
    reminder: str
    """What a judge is told whose reply holds none."""
    pairs: bool = False
    """Whether two answers are compared."""
    top_logprobs: int = 0


def rating(reply: Reply) -> float | None:
    """The first `Rating: [[7.5]]` (MT-Bench)."""
    found = RATING.search(reply.text or "")
    try:
        return float(found[1]) if found else None
    except ValueError:  # `[[1.2.3]]`
        return None


def choice(reply: Reply) -> float | None:
    """The first `[A]`, `[B]` or `[C]` (a tie), as a preference for the first answer."""
    found = CHOICE.search(reply.text or "")
    return PREFERENCES.get(found[1]) if found else None


def arena(reply: Reply) -> float | None:
    """The only verdict of the form `[[A>>B]]`, `[[A>B]]`, `[[A=B]]` … (Arena-Hard); none where there are several."""
    found = {mark for mark in ARENA.findall(reply.text or "") if mark}
    return ARENA_VALUES.get(found.pop()) if len(found) == 1 else None


def dimensions(reply: Reply) -> float | None:
    """The overall grade in the last `{'name': grade, …}` (AlignBench).

    Without such a group, but with the dimensions of one kind of answers named, the last number is the grade. A name
    that is no dimension, or a grade beyond 10, spoils the verdict.
    """
    text = reply.text or ""
    groups = GROUP.findall(text)
    if not groups:
        numbers = re.findall(r"\d{1,2}", text)
        named = any(all(name in text for name in names) for names in TELLING)
        return float(numbers[-1]) if named and numbers else None
    grades = {name: int(grade) for name, grade in PAIR.findall(groups[-1])}
    sound = OVERALL in grades and set(grades) <= DIMENSIONS and max(grades.values()) <= 10
    return float(grades[OVERALL]) if sound else None


def correctness(reply: Reply) -> float | None:
    """1 for `correct`, 0 for `incorrect`, whichever is said last."""
    found = JUDGED.findall(reply.text or "")
    return float(found[-1].lower() == "correct") if found else None


def first_letter(reply: Reply) -> float | None:
    """P("m") / (P("m") + P("M")) of the first token, where the engine gives its alternatives; else the letter itself.

    A token that is not among the alternatives counts as probability 0 (AlpacaEval 2.0).
    """
    if reply.top:
        small, large = (math.exp(reply.top[t]) if t in reply.top else 0.0 for t in ("m", "M"))
        return small / (small + large) if small + large else None
    return {"m": 1.0, "M": 0.0}.get((reply.text or "").strip()[:1])


def by_pattern(pattern: str) -> Form:
    """Grades by a regular expression whose first group is a number; ConfigError where it is none."""
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"malformed pattern {pattern!r}: {error}", "Python's `re` syntax") from error
    if compiled.groups < 1:
        raise ConfigError(f"the pattern {pattern!r} has no group", "put the grade in brackets: 'Score: (\\d+)'")

    def read(reply: Reply) -> float | None:
        found = compiled.search(reply.text or "")
        try:
            return float(found[1]) if found else None
        except (TypeError, ValueError):
            return None

    return Form(read, compiled, f"Give your verdict now, and nothing else, in the form {pattern}")


FORMS: Mapping[str, Form] = {
    "rating": Form(rating, RATING, 'Give your rating now, and nothing else, in the form "Rating: [[5]]".'),
    "choice": Form(
        choice, CHOICE, 'Give your verdict now, and nothing else: "[[A]]", "[[B]]", or "[[C]]" for a tie.', pairs=True
    ),
    "arena": Form(
        arena, ARENA, 'Give your verdict now, and nothing else, as one of "[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", '
        '"[[B>>A]]".', pairs=True,
    ),
    "dimensions": Form(dimensions, PAIR, "请只返回打分结果，格式为 {'维度一': 打分, ..., '综合得分': 打分}。"),
    "correctness": Form(correctness, None, 'Give your verdict now, and nothing else: "correct" or "incorrect".'),
    "first_letter": Form(first_letter, None, 'Answer now with "m" or "M", and nothing else.', True, 5),
}  # fmt: skip


def form_of(verdict: Any) -> Form:
    """The form that a config names, or describes by `{pattern: …}`; ConfigError for another."""
    if isinstance(verdict, Mapping) and set(verdict) == {"pattern"}:
        return by_pattern(str(verdict["pattern"]))
    if not isinstance(verdict, str) or verdict not in FORMS:
        raise ConfigError(f"llm_judge: unknown verdict {verdict!r}", did_you_mean(str(verdict), FORMS))
    return FORMS[verdict]


TOKENS = re.compile(r"<\|[^|<>\n]{1,60}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>", re.IGNORECASE)
"""What chat templates write between messages."""
LETTERS, SIGNS = re.compile(r"\w"), re.compile(r"[\[\]<>{}|\"#*=`]")
REMOVED = "(removed)"


def marks_of(template: str, slots: frozenset[str]) -> tuple[str, ...]:
    """The texts of a template that frame its slots: what stands nearest before and behind each of them."""
    pieces = re.split(r"\{\{-?\s*([\w\[\].-]+)\s*-?\}\}", template)
    found: dict[str, None] = {}
    for place in range(1, len(pieces), 2):
        if re.split(r"[\[.]", pieces[place])[0] in slots:
            before = [line.strip() for line in pieces[place - 1].split("\n") if line.strip()][-1:]
            behind = [line.strip() for line in pieces[place + 1].split("\n") if line.strip()][:1]
            found |= dict.fromkeys(before + behind)
    return tuple(found)


def harmless(text: str, marks: tuple[str, ...], pattern: re.Pattern[str] | None) -> str:
    """A judged text that can neither end its frame, nor open another message, nor be quoted as a verdict.

    What a frame is made of goes where it has words, and is spread out where it has none; words without any sign go at
    the beginning of a line only. Other texts stay as they are.
    """
    for mark in marks:
        flexible = r"\s+".join(map(re.escape, mark.split()))
        instead = REMOVED if LETTERS.search(mark) else " ".join(mark)
        flexible = flexible if SIGNS.search(mark) else rf"^[ \t]*{flexible}"
        text = re.sub(flexible, lambda found, new=instead: new, text, flags=re.IGNORECASE | re.MULTILINE)  # type: ignore[misc]
    text = TOKENS.sub(lambda found: " ".join(found[0]), text)
    return pattern.sub(lambda found: " ".join(found[0]), text) if pattern else text
