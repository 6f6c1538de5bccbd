"""Needle-in-a-haystack prompts, built as NeedleBench v1 builds them (protocol sheet: needle in a haystack)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Row
from evalkit.prompts.builders.base import BUILDERS, Material, TextTokenizer

KEYWORD_MARK = "*"
FORMAT_REQUEST = {"English": "Please answer in the format", "Chinese": "请按照"}
GUIDE = {
    "English": "Before answering, please consider what in the document is most relevant to this question. ",
    "Chinese": "在回答之前，请思考文档中与此问题最相关的内容是什么。",
}
BLANK_TAIL = {"English": ("Please answer in the format '", 10), "Chinese": ("请按照'", 16)}
"""What a base model's question loses: the request in front, and so many characters at its end."""


@dataclass
class Haystack:
    """Lines of text, each encoded once, however many prompts are cut from them."""

    lines: Sequence[str]
    tokenizer: TextTokenizer
    _ids: dict[int, list[int]] = field(default_factory=dict)
    _orders: list[list[int]] = field(default_factory=list)

    def order(self, counter: int) -> list[int]:
        """The line order of one repeat: shuffles accumulate, as one list is shuffled in place."""
        while len(self._orders) <= counter:
            order = list(self._orders[-1]) if self._orders else list(range(len(self.lines)))
            random.Random(len(self._orders)).shuffle(order)
            self._orders.append(order)
        return self._orders[counter]

    def tokens(self, counter: int, count: int) -> list[int]:
        """The first `count` tokens of the repeat's order; fewer when the lines are used up."""
        found: list[int] = []
        for number in self.order(counter):
            if len(found) >= count:
                break
            if number not in self._ids:
                self._ids[number] = self.tokenizer.encode(self.lines[number])
            found += self._ids[number]
        return found[:count]


@dataclass(frozen=True)
class Needle:
    """One fact to hide, the question that asks for it, and the words that prove it was found."""

    text: str
    question: str
    keyword: str


def build_row(haystack: Haystack, needle: Needle, *, length: int, depth: float, buffer: int, counter: int) -> Row:
    """One prompt's columns.

    The context is `length` tokens less `buffer` (room for template and answer) and less the needle,
    cut hard; the needle goes in at floor(tokens x (depth / 100)), also inside a word. The division
    comes first, in floating point, as in the loaders of the published runs: at some depths that is
    one token less than floor(tokens x depth / 100). `short` tells that the haystack was used up.
    """
    hidden = haystack.tokenizer.encode(f"\n{needle.text}\n")
    target = max(0, length - buffer - len(hidden))
    tokens = haystack.tokens(counter, target)
    at = int(len(tokens) * (depth / 100))
    context = haystack.tokenizer.decode(tokens[:at] + hidden + tokens[at:])
    return {
        "context": context,
        "question": needle.question,
        "needle": needle.text,
        "keyword": needle.keyword,
        "answer": f"\n{needle.text}\n{KEYWORD_MARK}{needle.keyword}",
        "length": length,
        "depth": depth,
        "counter": counter,
        "short": len(tokens) < target,
    }


def question_for(question: str, language: str, guide: bool) -> str:
    """The question with the guide sentence put before its format request.

    Without `guide` the request becomes a continuation: a base model is left with the answer
    sentence up to the blank. A question without a format request stays as it is.
    """
    request = FORMAT_REQUEST[language]
    if request not in question:
        return question
    before, after = question.split(request, 1)
    asked = f"{before}{GUIDE[language]}{request}{after}"
    if guide:
        return asked
    removed, tail = BLANK_TAIL[language]
    return asked.replace(removed, "")[:-tail]


def choose(needles: Sequence[Mapping[str, Any]], language: str, counter: int) -> Needle:
    """The repeat's needle: drawn from the file's rows of the language with the repeat's number as seed."""
    rows = [row for row in needles if row["language"] == language]
    row = random.Random(counter).choice(rows)
    return Needle(row["needle"], row["retrieval_question"], row["arg2"])


@BUILDERS.register("needle")
def build_needle(
    material: Material,
    needle: str | Sequence[str],
    question: str | Sequence[str],
    keyword: str | Sequence[str],
    buffer: int,
    repeats: int = 10,
    language: str = "English",
    guide: bool = True,
) -> list[Row]:
    """Prompts with a hidden sentence for the subset's `length` (tokens) and `depth` (percent).

    The needle is the same in all repeats; where lists are given, repeat r takes their r-th entries,
    from the start again when they are used up.
    """
    facts = [replace(f, question=question_for(f.question, language, guide)) for f in _facts(needle, question, keyword)]
    if "haystack" not in material.cache:
        lines = [str(row["text"]) for row in material.rows]
        if not lines:
            raise DataError("the haystack file has no rows", 'each line is {"text": …}')
        material.cache["haystack"] = Haystack(lines, material.tokenizer())
    length, depth = material.variables["length"], material.variables["depth"]
    return [
        build_row(material.cache["haystack"], fact, length=length, depth=depth, buffer=buffer, counter=counter)
        for counter, fact in zip(range(repeats), cycle(facts), strict=False)
    ]


def _facts(needle: str | Sequence[str], question: str | Sequence[str], keyword: str | Sequence[str]) -> list[Needle]:
    """The needles of a config, one or several; ConfigError where the lists do not belong together."""
    lists = [[part] if isinstance(part, str) else list(part) for part in (needle, question, keyword)]
    if not lists[0] or len({len(part) for part in lists}) > 1:
        raise ConfigError("needle, question and keyword differ in number", "one text each, or lists of equal length")
    if any(KEYWORD_MARK in text for text in (*lists[0], *lists[2])):
        raise ConfigError(f"needle and keyword may not hold {KEYWORD_MARK!r}", "it parts the two in the gold")
    return [Needle(*fact) for fact in zip(*lists, strict=True)]
