"""First-option rules: which option letter does an answer name? (protocol sheet: mmlu); the first capital (cmmlu).

The first pattern of an ordered list that matches decides. Both lists are copied with their oddities,
as published scores depend on them: `**Answer: C**` gives A under the list of May 2024.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from evalkit.core.errors import ConfigError
from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

Finder = Callable[[str], "Found | None"]


@dataclass(frozen=True)
class Found:
    """The first match of one rule."""

    whole: str
    captured: str
    """What the rule's group holds; empty when it has none."""


# In the patterns X stands for one option letter. `run` rules and `boxed` rules are searched by
# functions below, as their plain patterns take quadratic time on long outputs.
HEAD = (
    r"答案是?\s*(X)",
    r"答案是?\s*：\s*(X)",
    r"答案是?\s*:\s*(X)",
)
SHOULD = (r"答案应该?是\s*(X)", r"答案应该?选\s*(X)")
CHOICE = (
    r"答案为\s*(X)",
    r"答案选\s*(X)",
    r"选择?\s*(X)",
    # Two rules that a missing comma joined; so published.
    r"故选?\s*(X)只有选?项?\s?(X)\s?是?对",
    r"只有选?项?\s?(X)\s?是?错",
    r"只有选?项?\s?(X)\s?不?正确",
    r"只有选?项?\s?(X)\s?错误",
    r"说法不?对选?项?的?是\s?(X)",
    r"说法不?正确选?项?的?是\s?(X)",
    r"说法错误选?项?的?是\s?(X)",
    r"(X)\s?是正确的",
    r"(X)\s?是正确答案",
    r"选项\s?(X)\s?正确",
    r"所以答\s?(X)",
    r"所以\s?(X[.。$]?$)",
    r"所有\s?(X[.。$]?$)",
    r"[\s，：:,](X)[。，,\.]?$",
    r"[\s，,：:][故即](X)[。\.]?$",
    r"[\s，,：:]因此(X)[。\.]?$",
    r"[是为。]\s?(X)[。\.]?$",
    r"因此\s?(X)[。\.]?$",
    r"显然\s?(X)[。\.]?$",
    "run:答案是",
    "run:答案应该是",
    "run:答案为",
)
ANSWER_IS = r"[Tt]he answer is:?\s+\(?(X)\)?"
ENGLISH = (
    r"[Tt]he answer is option:?\s+\(?(X)\)?",
    r"[Tt]he correct answer is:?\s+\(?(X)\)?",
    r"[Tt]he correct answer is option:?\s+\(?(X)\)?",
)
QUESTION = (r"[Tt]he answer to the question is:?\s+\(?(X)\)?", r"^选项\s?(X)", r"^(X)\s?选?项")
LONE = r"(\s|^)X[\s。，,：:\.$]"
ONE = (r"1.\s?(.*?)$", r"1.\s?(X)[.。$]?$")
COLON = r"(X):"

MAY_2024 = (
    *HEAD, *SHOULD, *CHOICE, ANSWER_IS, *ENGLISH, *QUESTION, LONE, r"(\s|^)X(\s|$)", *ONE, COLON, "X",
)  # fmt: skip
REVISION_2026 = (
    *HEAD, r"答案选项应?该?是\s*(X)", r"答案选项应?该?为\s*(X)", *SHOULD,
    r"答案选项为?\s*：\s*(X)", r"答案选项为?\s+\(?\*?\*?(X)\*?\*?\)?", r"答案选项是?\s*:\s*(X)", *CHOICE,
    r"(?i:ANSWER\s*:\s*(X))", ANSWER_IS, r"[Tt]he answer is:?\s+\(?\*?\*?(X)\*?\*?\)?", *ENGLISH,
    "boxed:[Tt]he correct answer is:?", "boxed:[Tt]he correct option is:?", "boxed:[Tt]he correct answer option is:?",
    *QUESTION, LONE, *ONE, COLON, "(X)",
)  # fmt: skip


@STEPS.register("first_option")
def first_option(text: str, context: Context, options: str | Sequence[str] = "") -> str:
    """The option letter an answer names by the list of May 2024, or an empty text.

    The whole matched part is looked at: the first option, in the options' order, that occurs in it is
    the answer; where none does, the next pattern is tried. The text is not stripped. Options come
    from the benchmark's labels, or from the argument.
    """
    letters = letters_of(options, context)
    for found in matches(text, MAY_2024, letters):
        named = [letter for letter in letters if letter in found.whole]
        if named:
            return named[0]
    return ""


@STEPS.register("first_option_2026")
def first_option_2026(text: str, context: Context, options: str | Sequence[str] = "") -> str:
    """The same by the list of the 2026 revision: of a stripped text, and by the captured letter."""
    letters = letters_of(options, context)
    for found in matches(text.strip(), REVISION_2026, letters):
        named = [letter for letter in letters if letter in (found.captured or found.whole)]
        if named:
            return named[0]
    return ""


@STEPS.register("first_capital")
def first_capital(text: str, context: Context) -> str:
    """The first upper-case letter of any script, or an empty text (protocol sheets: cmmlu, ceval).

    It need not be an option: `The answer is B` gives T.
    """
    return next((letter for letter in text if letter.isupper()), "")


def letters_of(options: str | Sequence[str], context: Context) -> tuple[str, ...]:
    """Single option letters, from the step's argument or else from the context; ConfigError otherwise."""
    letters = tuple(options or context.get("options") or ())
    if not letters or any(len(letter) != 1 for letter in letters):
        message = f"first_option needs options of one letter each, not {list(letters)}"
        raise ConfigError(message, "labels: [A, B, C, D]")
    return letters


def matches(text: str, rules: tuple[str, ...], letters: tuple[str, ...]) -> Iterator[Found]:
    """The first match of each rule that matches, in the rules' order."""
    for finder in finders(rules, letters):
        found = finder(text)
        if found is not None:
            yield found


@lru_cache(maxsize=64)
def finders(rules: tuple[str, ...], letters: tuple[str, ...]) -> tuple[Finder, ...]:
    """The rules as functions, compiled once for each set of letters."""
    one = "[" + "".join(map(re.escape, letters)) + "]"
    return tuple(_finder(rule, one) for rule in rules)


def _finder(rule: str, one: str) -> Finder:
    kind, _, rest = rule.partition(":")
    if kind == "run":
        return _run_finder(rest)
    if kind == "boxed":
        return _boxed_finder(rest, one)
    return _plain_finder(re.compile(rule.replace("X", one), re.DOTALL))


def _plain_finder(pattern: re.Pattern[str]) -> Finder:
    def find(text: str) -> Found | None:
        match = pattern.search(text)
        return Found(match[0], match[1] or "" if pattern.groups else "") if match else None

    return find


def _run_finder(marker: str) -> Finder:
    r"""The rule `marker\s?(\S+)(?:。|$)`, tried once for each run of non-space.

    Where it fails behind one marker it fails behind every later marker that leads to the same run,
    as that sees less of it; skipping those keeps the search linear.
    """
    lead = re.compile(re.escape(marker) + r"\s?(?=\S)")
    rest, run = re.compile(r"(\S+)(?:。|$)"), re.compile(r"\S+")

    def find(text: str) -> Found | None:
        tried = 0
        for start in lead.finditer(text):
            if start.end() < tried:
                continue
            match = rest.match(text, start.end())
            if match:
                return Found(start[0] + match[0], match[1])
            whole = run.match(text, start.end())
            tried = whole.end() if whole else start.end()
        return None

    return find


def _boxed_finder(lead: str, one: str) -> Finder:
    """The rule `lead.*?boxed{X}`: if nothing is boxed behind the first lead, nothing is behind a later one."""
    start = re.compile(lead)
    boxed = re.compile(r"boxed\{(" + one + r")\}")

    def find(text: str) -> Found | None:
        first = start.search(text)
        match = boxed.search(text, first.end()) if first else None
        return Found(text[first.start() : match.end()], match[1]) if first and match else None

    return find
