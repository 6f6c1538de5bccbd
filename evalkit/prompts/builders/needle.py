"""Needle-in-a-haystack prompts, built as NeedleBench v1 builds them (protocol sheet: needle in a haystack)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Row
from evalkit.data.files import read_file
from evalkit.prompts.builders.base import BUILDERS, Material, TextTokenizer

KEYWORD_MARK = "*"
FORMAT_REQUEST = {"English": "Please answer in the format", "Chinese": "请按照"}
ASKED = ("guided", "completed", "plain")
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

    def tokens(self, counter: int, count: int, repeated: bool = False) -> list[int]:
        """The first `count` tokens of the repeat's order; fewer when the lines are used up and not `repeated`."""
        tokens: list[int] = []
        for number in self.order(counter):
            if len(tokens) >= count:
                break
            tokens += self._encoded(number)
        if repeated and tokens and len(tokens) < count:
            tokens *= -(-count // len(tokens))
        return tokens[:count]

    @property
    def size(self) -> int:
        """Tokens of all lines."""
        return sum(len(self._encoded(number)) for number in range(len(self.lines)))

    def _encoded(self, number: int) -> list[int]:
        if number not in self._ids:
            self._ids[number] = self.tokenizer.encode(self.lines[number])
        return self._ids[number]


@dataclass(frozen=True)
class Needle:
    """One fact to hide, the question that asks for it, and the words that prove it was found."""

    text: str
    question: str
    keyword: str


def hide(
    haystack: Haystack, texts: Sequence[str], places: Sequence[float], *, length: int, buffer: int, counter: int,
    repeated: bool = False,
) -> tuple[str, bool]:  # fmt: skip
    """(the haystack with the texts in it, whether its lines were used up).

    The whole is `length` tokens less `buffer` (room for template and answer), cut hard. Text i goes in at
    floor(tokens x (place i / 100)), also inside a word, and behind those that went in before. The division
    comes first, in floating point, as in the loaders of the published runs: at some places that is one token
    less than floor(tokens x place / 100).
    """
    hidden = [haystack.tokenizer.encode(f"\n{text}\n") for text in texts]
    target = max(0, length - buffer - sum(map(len, hidden)))
    tokens = haystack.tokens(counter, target, repeated)
    points = [min(int(len(tokens) * (place / 100)), len(tokens)) for place in places]
    short = len(tokens) < target or (repeated and target > haystack.size)
    inserted = 0
    for ids, point in zip(hidden, points, strict=True):
        at = min(point + inserted, len(tokens))
        tokens = tokens[:at] + ids + tokens[at:]
        inserted += len(ids)
    return haystack.tokenizer.decode(tokens), short


def build_row(
    haystack: Haystack, needle: Needle, *, length: int, depth: float, buffer: int, counter: int, repeated: bool = False
) -> Row:
    """One prompt's columns: `hide` with one needle. `short` tells that the lines of the haystack were used up."""
    context, short = hide(
        haystack, [needle.text], [depth], length=length, buffer=buffer, counter=counter, repeated=repeated
    )
    return {
        "context": context,
        "question": needle.question,
        "needle": needle.text,
        "keyword": needle.keyword,
        "answer": f"\n{needle.text}\n{KEYWORD_MARK}{needle.keyword}",
        "length": length,
        "depth": depth,
        "counter": counter,
        "short": short,
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
    ask: str = "guided",
    needles: str = "",
    short: str = "cut",
) -> list[Row]:
    """Prompts with a hidden sentence for the subset's `length` (tokens) and `depth` (percent).

    `needles` names a file of needles beside the haystack: each repeat draws one of the language's. Without the
    file, or where it is absent, the needle is the one given here, the same in all repeats; where lists are given,
    repeat r takes their r-th entries, from the start again when they are used up.
    Where the haystack is shorter than a prompt should be, `short` says what is done: `cut` leaves the prompt
    shorter, as the published loader does, `repeat` begins the haystack anew. `ask` is how the
    question is put: `guided` by a sentence before its format request,
    `completed` by a base model, or `plain`.
    """
    listed = read_needles(material, needles, language)
    if listed:
        facts = [choose(listed, language, counter) for counter in range(repeats)]
    else:
        facts = _facts(needle, question, keyword)
    if ask not in ASKED:
        raise ConfigError(f"ask: {ask!r} is unknown", ", ".join(ASKED))
    if ask != "plain":
        facts = [replace(f, question=question_for(f.question, language, guide=ask == "guided")) for f in facts]
    haystack = haystack_of(material)
    length, depth = material.variables["length"], material.variables["depth"]
    rows = [
        build_row(
            haystack, fact, length=length, depth=depth, buffer=buffer, counter=counter, repeated=repeats_corpus(short)
        )
        for counter, fact in zip(range(repeats), cycle(facts), strict=False)
    ]
    remark_short(material, haystack, short, any(row["short"] for row in rows))
    return rows


def haystack_of(material: Material) -> Haystack:
    """The haystack of a benchmark's rows, encoded once for all subsets; DataError without rows."""
    if "haystack" not in material.cache:
        lines = [str(row["text"]) for row in material.rows]
        if not any(lines):
            raise DataError("the haystack file has no rows", 'each line is {"text": …}')
        material.cache["haystack"] = Haystack(lines, material.tokenizer())
    found: Haystack = material.cache["haystack"]
    return found


def read_needles(material: Material, name: str, language: str) -> list[Row]:
    """The file's needles in all languages, in file order.

    Empty where the file is absent or has none in `language`, which is remarked.
    """
    if not name:
        return []
    key = f"needles {name}"
    if key not in material.cache:
        path = material.beside(name)
        material.cache[key] = read_file(path) if path else []
    rows: list[Row] = material.cache[key]
    usable = any(row.get("language") == language for row in rows)
    absent = f"no {language} needles in {name}, or it is absent: the needle is the one in the config"
    material.remark("needles", f"needles are drawn from {name}" if usable else absent)
    return rows if usable else []


def repeats_corpus(short: str) -> bool:
    """Whether a haystack that is too short is repeated; ConfigError for an unknown word."""
    if short not in ("cut", "repeat"):
        raise ConfigError(f"short: {short!r} is unknown", "cut (as the published loader) or repeat")
    return short == "repeat"


def remark_short(material: Material, haystack: Haystack, short: str, used_up: bool) -> None:
    """Say that some prompt needs more tokens than the haystack has."""
    if used_up:
        done = "it is repeated in longer prompts" if repeats_corpus(short) else "longer prompts are cut to it"
        material.remark("haystack", f"the haystack has {haystack.size:,} tokens: {done}")


def _facts(needle: str | Sequence[str], question: str | Sequence[str], keyword: str | Sequence[str]) -> list[Needle]:
    """The needles of a config, one or several; ConfigError where the lists do not belong together."""
    lists = [[part] if isinstance(part, str) else list(part) for part in (needle, question, keyword)]
    if not lists[0] or len({len(part) for part in lists}) > 1:
        raise ConfigError("needle, question and keyword differ in number", "one text each, or lists of equal length")
    if any(KEYWORD_MARK in text for text in (*lists[0], *lists[2])):
        raise ConfigError(f"needle and keyword may not hold {KEYWORD_MARK!r}", "it parts the two in the gold")
    return [Needle(*fact) for fact in zip(*lists, strict=True)]
