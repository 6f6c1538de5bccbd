"""The tasks of NeedleBench with several facts: retrieval, reasoning, ancestral trace (sheet: needle in a haystack)."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Row
from evalkit.data.files import read_file
from evalkit.prompts.builders.base import BUILDERS, Material
from evalkit.prompts.builders.needle import (
    GUIDE,
    KEYWORD_MARK,
    Haystack,
    haystack_of,
    hide,
    question_for,
    read_needles,
    remark_short,
    repeats_corpus,
)

STEP = 10
"""Percent of the haystack between two needles that belong together."""
END = {"English": "?", "Chinese": "？"}
STOP = {"English": ".", "Chinese": "。"}
FORMAT = {"English": "Please answer in the format of '{}'", "Chinese": "请按照'{}'的格式回答。"}


@BUILDERS.register("needle_retrieval")
def build_retrieval(
    material: Material, needles: str, buffer: int, repeats: int = 25, language: str = "English", short: str = "cut"
) -> Sequence[Row]:
    """Prompts of the subset's `length` with a needle at each of its `depths`; all are asked for at once.

    The needles are those of the file whose subjects and answers occur once, as many as there are depths, in an
    order drawn for each repeat. Which ones is drawn with the seed 0 (the published loader sets none).
    DataError when the file has too few.
    """
    depths = material.variables.get("depths") or ()
    chosen = _distinct(read_needles(material, needles, language), language, len(depths), needles)
    haystack = haystack_of(material)
    rows = [
        _retrieval_row(haystack, chosen, depths, material.variables["length"], buffer, counter, language, short)
        for counter in range(repeats)
    ]
    remark_short(material, haystack, short, any(row["short"] for row in rows))
    return rows


def _retrieval_row(
    haystack: Haystack, chosen: Sequence[Row], depths: Sequence[float], length: int, buffer: int, counter: int,
    language: str, short: str,
) -> Row:  # fmt: skip
    order = list(chosen)
    random.Random(counter).shuffle(order)
    context, used_up = hide(
        haystack, [row["needle"] for row in order], depths, length=length, buffer=buffer, counter=counter,
        repeated=repeats_corpus(short),
    )  # fmt: skip
    asked = [row["retrieval_question"] for row in order]
    questions = "、".join(text.split(END[language])[0] + END[language] for text in asked)
    blanks = "、".join(text.split("'")[1].split(STOP[language])[0] for text in asked)
    question = question_for(questions + FORMAT[language].format(blanks), language, guide=True)
    keywords = KEYWORD_MARK.join(row["arg2"] for row in order)
    answer = f"{keywords}#{KEYWORD_MARK.join(f'{depth:g}' for depth in depths)}"
    return {"context": context, "question": question, "answer": answer, "length": length, "counter": counter,
            "short": used_up}  # fmt: skip


def _distinct(rows: Sequence[Row], language: str, count: int, name: str) -> list[Row]:
    """The first `count` rows in the language, in an order drawn with seed 0, whose subjects and answers all differ."""
    order = list(rows)
    random.Random(0).shuffle(order)
    chosen: list[Row] = []
    seen: set[tuple[str, str]] = set()
    for row in order:
        if row["language"] != language:
            continue
        marks = {("arg1", row["arg1"]), ("arg2", row["arg2"])}
        if len(chosen) < count and not marks & seen:
            chosen.append(row)
            seen |= marks
    if not count or len(chosen) < count:
        raise DataError(
            f"{count} different needles are needed, {name} has {len(chosen)}",
            "`run.py fetch NAME --data-root DIR` brings the file; or take fewer: --set data.depths=[0,50,100]",
        )
    return chosen


@BUILDERS.register("needle_reasoning")
def build_reasoning(
    material: Material, file: str, buffer: int, repeats: int = 10, language: str = "English", short: str = "cut"
) -> Sequence[Row]:
    """Prompts with `count` needles that only together answer the question; `length`, `depth` and `count` are the
    subset's.

    The first needle is at the depth, each further one a tenth of the haystack deeper, the last at the end at most.
    Repeat r draws one of the file's records with so many needles with the seed r. The file is a list of
    {derivations, derivation_count, question, answer}.
    """
    count, depth, length = (material.variables[key] for key in ("count", "depth", "length"))
    records = [r for r in _records(material, file) if r["derivation_count"] == count]
    if not records:
        raise DataError(f"{file} has no record with {count} needles", "its rows are {derivations, derivation_count, …}")
    haystack = haystack_of(material)
    places = [min(100.0, depth + STEP * i) for i in range(count)]
    rows: list[Row] = []
    for counter in range(repeats):
        record = random.Random(counter).choice(records)
        context, used_up = hide(
            haystack, record["derivations"], places, length=length, buffer=buffer, counter=counter,
            repeated=repeats_corpus(short),
        )  # fmt: skip
        answer = f"{record['answer']}{KEYWORD_MARK}{record['answer']}"
        question = record["question"] + GUIDE[language].rstrip()
        rows.append(
            {"context": context, "question": question, "answer": answer, "length": length, "depth": depth,
             "counter": counter, "short": used_up}
        )  # fmt: skip
    remark_short(material, haystack, short, any(row["short"] for row in rows))
    return rows


def _records(material: Material, name: str) -> list[Row]:
    if name not in material.cache:
        path = material.beside(name)
        if path is None:
            raise DataError(f"the file {name} is absent", "`run.py fetch NAME --data-root DIR` brings it")
        material.cache[name] = read_file(path)
    found: list[Row] = material.cache[name]
    return found


RELATIONS: Mapping[str, tuple[str, ...]] = {
    "English": (
        "{child}'s father is {parent}.", "{child}'s mother is {parent}.", "{parent} is the father of {child}.",
        "{parent} is the mother of {child}.", "{child} is a child of {parent}.",
    ),
    "Chinese": (
        "{child}的父亲是{parent}。", "{child}的母亲是{parent}。", "{parent}是{child}的父亲。",
        "{parent}是{child}的母亲。", "{child}是{parent}的孩子。",
    ),
}  # fmt: skip
"""Wording of our own, each a step of one generation; the published sentences are not in the public data."""
ASKED: Mapping[str, Mapping[str, str]] = {
    "English": {
        "eldest": "Who is the eldest relative that '{youngest}' can trace back to?",
        "ancestor": "Who is the ancestor of '{youngest}' by {n} generations?",
        "descendant": "Who is the descendant of '{eldest}' by {n} generations?",
        "distance": "How many generations lie between '{eldest}' and '{youngest}'? A parent and a child are 1 apart.",
    },
    "Chinese": {
        "eldest": "'{youngest}'能够向上追溯到的最年长的亲人是谁？",
        "ancestor": "'{youngest}'向上数第{n}代的长辈是谁？",
        "descendant": "'{eldest}'向下数第{n}代的晚辈是谁？",
        "distance": "'{eldest}'和'{youngest}'相差几代？父母与子女相差1代。",
    },
}
KINDS = ("eldest", "ancestor", "descendant", "distance")
NAMES = "opencompass/NeedleBench/names.json"
"""Lists of names, {"Chinese": "名,名", "English": "A B,C D"}."""


@BUILDERS.register("ancestral_trace")
def build_ancestral_trace(
    material: Material, repeats: int = 10, language: str = "English", names: str = NAMES
) -> Sequence[Row]:
    """Chains of the subset's `count` kinship sentences in random order, without a haystack, and a question of its
    `kind`: eldest, ancestor, descendant or distance.

    Repeat i is drawn with the seed (i + 1) + 10000 x the number of the kind. Names are those of names.json where
    it is there; sentences and questions are our own.
    """
    count, kind = material.variables["count"], str(material.variables["kind"])
    if kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r} of question", ", ".join(KINDS))
    people = _names(material, language, names)
    seeds = [i + 1 + 10000 * KINDS.index(kind) for i in range(repeats)]
    return [_chain(random.Random(seed), people, count, kind, language) for seed in seeds]


@BUILDERS.register("kinship_reasoning")
def build_kinship(
    material: Material,
    buffer: int,
    repeats: int = 10,
    language: str = "English",
    short: str = "cut",
    names: str = "names.json",
) -> Sequence[Row]:
    """A chain of the subset's `count` kinship sentences hidden in a haystack, as `needle_reasoning` hides needles;
    asked for the eldest relative."""
    count, depth, length = (material.variables[key] for key in ("count", "depth", "length"))
    haystack, people = haystack_of(material), _names(material, language, names)
    places = [min(100.0, depth + STEP * i) for i in range(count)]
    rows: list[Row] = []
    for counter in range(repeats):
        made = _chain(random.Random(counter), people, count, "eldest", language)
        context, used_up = hide(
            haystack, made["sentences"], places, length=length, buffer=buffer, counter=counter,
            repeated=repeats_corpus(short),
        )  # fmt: skip
        rows.append({**made, "context": context, "length": length, "depth": depth, "short": used_up})
    remark_short(material, haystack, short, any(row["short"] for row in rows))
    return rows


def _chain(draw: random.Random, names: Sequence[str], count: int, kind: str, language: str) -> dict[str, Any]:
    """One chain: its sentences in random order, the question and the answer."""
    if len(names) <= count:
        raise DataError(f"{count + 1} names are needed, there are {len(names)}", f"fetch {NAMES}, or ask for less")
    people = draw.sample(list(names), count + 1)  # youngest first
    sentences = [
        draw.choice(RELATIONS[language]).format(child=child, parent=parent)
        for child, parent in itertools.pairwise(people)
    ]
    draw.shuffle(sentences)
    answers: Mapping[str, Callable[[], str]] = {
        "eldest": lambda: people[-1],
        "ancestor": lambda: people[count],
        "descendant": lambda: people[0],
        "distance": lambda: str(count),
    }
    question = ASKED[language][kind].format(youngest=people[0], eldest=people[-1], n=count)
    separator = " " if language == "English" else ""
    return {"sentences": sentences, "context": separator.join(sentences), "question": question,
            "answer": answers[kind](), "count": count}  # fmt: skip


FIRST = (
    "Ada Ben Cleo Dan Eva Finn Gus Hana Ivo Jana Karl Lena Milo Nora Otto Pia Quin Rosa Sven Tara Uwe Vera Will Xena"
    " Yann"
)
LAST = (
    "Abel Brook Cross Dale Ember Frost Grant Holt Irwin Joyce Kane Lowe Marsh North Orr Page Quick Reed Stone Thorn"
    " Upton Vance Wade York Zell"
)
FIRST_ZH, LAST_ZH = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂红玲建华",
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩",
)


def _names(material: Material, language: str, file: str) -> list[str]:
    """Names of people: the file's, else combinations of our own."""
    key = f"names {language}"
    if key not in material.cache:
        path = material.beside(file)
        material.cache[key] = _listed(path, language) if path else _combined(language)
        absent = f"{file} is absent: names are combinations of our own"
        material.remark("names", absent if path is None else f"names are drawn from {file}")
    found: list[str] = material.cache[key]
    return found


def _listed(path: Path, language: str) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))[language].split(",")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = '{"Chinese": "名,名", "English": "A B,C D"}'
        raise DataError(f"{path} has no names for {language}: {error!r}", hint) from error
    return list(dict.fromkeys(name.strip() for name in names))


def _combined(language: str) -> list[str]:
    if language == "English":
        return [f"{first} {last}" for first in FIRST.split() for last in LAST.split()]
    return [last + first for first in FIRST_ZH for last in LAST_ZH]
