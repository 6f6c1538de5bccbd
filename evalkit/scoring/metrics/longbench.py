"""Scores of LongBench (protocol sheet: longbench).

The gold of a row is a list of texts; a row's score is its best over them, or for counts, paragraphs and classes the
sum. Every metric's result is called `score` and is 100 times the mean over rows.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Metric, each, mean_percent
from evalkit.scoring.metrics.golds import listed, shown, texts
from evalkit.scoring.metrics.words import english_words, token_f1

NAME = "score"
DIGITS = re.compile(r"\d+")
CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
DROPPED = frozenset(string.punctuation + CHINESE_PUNCTUATION)
NO_CODE = ("`", "#", "//")
"""A line with one of these is no line of code."""
LANGUAGES = ("en", "zh")


@METRICS.register("longbench_f1")
def longbench_f1(language: str = "en", name: str = NAME) -> Metric:
    """F1 of the tokens in common, punctuation and case aside: words without articles, or jieba's Chinese tokens."""
    tokens = _by_language(language, english_words, chinese_tokens)
    return _best(name, lambda answer, gold: token_f1(tokens(answer), tokens(gold)))


@METRICS.register("longbench_rouge")
def longbench_rouge(language: str = "en", name: str = NAME) -> Metric:
    """ROUGE-L as the package `rouge` 1.0.1 gives it, on raw texts; Chinese is split into jieba's tokens first.

    With several golds the reference splits the answer once more for each, which is kept.
    """
    _by_language(language, None, None)

    def judge(case: Case) -> dict[str, float]:
        answer, found = str(case.answer), 0.0
        for gold in listed(case.gold):
            if language == "zh":
                answer, gold = " ".join(segmented(answer)), " ".join(segmented(gold))
            found = max(found, rouge_l(answer, gold))
        return {VALUE: found}

    return Metric(name, each(judge), mean_percent(name), check_gold=lambda case: texts(case.gold))


@METRICS.register("longbench_code")
def longbench_code(name: str = NAME) -> Metric:
    """Similarity of the first line of code and the gold, in whole percent."""
    return _best(name, lambda answer, gold: similarity(first_code_line(answer), gold) / 100)


@METRICS.register("longbench_count")
def longbench_count(name: str = NAME) -> Metric:
    """Share of the numbers in the answer that are the gold, digit for digit."""
    return _sum(name, lambda answer, gold: _share(answer, str(gold)), lambda case: texts(case.gold))


@METRICS.register("longbench_retrieval")
def longbench_retrieval(mark: str = "Paragraph ", name: str = NAME) -> Metric:
    """Share of the numbers in the answer that are the gold's; the gold is `<mark><number>`."""
    pattern = re.compile(re.escape(mark) + r"(\d+)")

    def check(case: Case) -> str:
        fault = texts(case.gold)
        bad = [] if fault else [g for g in listed(case.gold) if not pattern.search(g)]
        return fault or (f"{shown(bad[0])} is not `{mark}<number>`" if bad else "")

    return _sum(name, lambda answer, gold: _share(answer, pattern.findall(gold)[0]), check)


@METRICS.register("longbench_classes")
def longbench_classes(name: str = NAME) -> Metric:
    """One over the number of class names in the answer, where the right one is among them; else 0.

    Names that are a part of the right one do not count. The gold is {answers, all_classes}.
    """

    def check(case: Case) -> str:
        if not isinstance(case.gold, Mapping) or {"answers", "all_classes"} - set(case.gold):
            return f"{shown(case.gold)} is not {{answers, all_classes}}"
        fault = texts(case.gold["answers"]) or texts(case.gold["all_classes"])
        strange = [] if fault else [a for a in listed(case.gold["answers"]) if a not in case.gold["all_classes"]]
        return fault or (f"{shown(strange[0])} is none of the classes" if strange else "")

    def judge(case: Case) -> dict[str, float]:
        classes = case.gold["all_classes"]
        return {VALUE: sum(class_score(str(case.answer), gold, classes) for gold in listed(case.gold["answers"]))}

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


def _best(name: str, score: Callable[[str, str], float]) -> Metric:
    def judge(case: Case) -> dict[str, float]:
        return {VALUE: max(score(str(case.answer), gold) for gold in listed(case.gold))}

    return Metric(name, each(judge), mean_percent(name), check_gold=lambda case: texts(case.gold))


def _sum(name: str, score: Callable[[str, str], float], check: Callable[[Case], str]) -> Metric:
    def judge(case: Case) -> dict[str, float]:
        return {VALUE: sum(score(str(case.answer), gold) for gold in listed(case.gold))}

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


def _by_language(language: str, english: Any, chinese: Any) -> Any:
    if language not in LANGUAGES:
        raise ConfigError(f"unknown language {language!r}", ", ".join(LANGUAGES))
    return english if language == "en" else chinese


def chinese_tokens(text: str) -> list[str]:
    """jieba's tokens in lower case, without white space and punctuation; empty ones are left out."""
    cleaned = ("".join(c for c in "".join(token.lower().split()) if c not in DROPPED) for token in segmented(text))
    return [token for token in cleaned if token]


def segmented(text: str) -> list[str]:
    """jieba's tokens, in its accurate mode."""
    return list(_segmenter().cut(text, cut_all=False))


@lru_cache(maxsize=1)
def _segmenter() -> Any:
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)  # it announces its dictionary on stderr
    return jieba.Tokenizer()


def rouge_l(answer: str, gold: str) -> float:
    """Summary-level ROUGE-L with every word counted once, 0 to 1.

    Sentences end at full stops. For each pair of a gold and an answer sentence the words of a longest common
    subsequence; all of these together, each once, over the different words of the gold (recall) and of the answer
    (precision). 0 where a text has nothing but full stops.
    """
    answers, golds = _sentences(answer), _sentences(gold)
    if not answers or not golds:
        return 0.0
    common: set[str] = set()
    for one in golds:
        for other in answers:
            common |= common_words(one, other)
    recall = len(common) / len({word for sentence in golds for word in sentence})
    precision = len(common) / len({word for sentence in answers for word in sentence})
    return 2 * precision * recall / (precision + recall + 1e-8)


def _sentences(text: str) -> list[list[str]]:
    """Words of each sentence; one of white space alone has an empty word, as in the package."""
    return [" ".join(sentence.split()).split(" ") for sentence in text.split(".") if sentence]


def common_words(gold: Sequence[str], answer: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence; of several, the one that drops answer words first from the end."""
    table = [[0] * (len(answer) + 1)]
    for word in gold:
        above, row = table[-1], [0]
        for j, other in enumerate(answer):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    words: set[str] = set()
    i, j = len(gold), len(answer)
    while i and j:
        if gold[i - 1] == answer[j - 1]:
            words.add(gold[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def first_code_line(text: str) -> str:
    """The first line without a backquote, `#` or `//`, newlines in front of the text aside; empty without one."""
    lines = text.lstrip("\n").split("\n")
    return next((line for line in lines if not any(mark in line for mark in NO_CODE)), "")


def similarity(answer: str, gold: str) -> int:
    """Twice the length of the longest common subsequence over both lengths, in whole percent; 0 for an empty text."""
    if not answer or not gold:
        return 0
    return round(100 * 2 * common_length(answer, gold) / (len(answer) + len(gold)))


def common_length(a: str, b: str) -> int:
    """Length of the longest common subsequence, by Hyyrö's bit-parallel algorithm (2004)."""
    places: dict[str, int] = {}
    for i, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for character in b:
        match = row & places.get(character, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()


def _share(answer: str, gold: str) -> float:
    numbers = DIGITS.findall(answer)
    return numbers.count(gold) / len(numbers) if numbers else 0.0


def class_score(answer: str, gold: str, classes: Sequence[str]) -> float:
    """The score of one answer; names are dropped from the list while it is gone through, as published, so that the
    name behind a dropped one stays."""
    named = [one for one in classes if one in answer]
    for one in named:
        if one in gold and one != gold:
            named.remove(one)
    return 1 / len(named) if gold in named else 0.0
