"""Scores of needle-in-a-haystack answers (protocol sheet: needle_in_haystack).

The gold is the reference text `needle*keyword`, or the needle alone where only the distance counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evalkit.core import stats
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, each, mean_percent
from evalkit.scoring.metrics.golds import one_text, shown

NAME = "score"
PARTLY = 0.2
"""Share of the similarity that an answer without the keyword gets in NeedleBench v1."""


@METRICS.register("needle_v1")
def needle_v1(name: str = NAME) -> Metric:
    """NeedleBench v1: 100 if the keyword is in the answer, else a fifth of the similarity to the needle."""
    return _metric(name, lambda answer, gold: 1.0 if _has(answer, gold) else PARTLY * similarity(answer, gold), True)


@METRICS.register("needle_v2")
def needle_v2(name: str = NAME) -> Metric:
    """NeedleBench v2: 100 if the keyword is in the answer, else 0."""
    return _metric(name, lambda answer, gold: float(_has(answer, gold)), True)


@METRICS.register("needle_cdme")
def needle_cdme(name: str = NAME) -> Metric:
    """CDME: the similarity to the needle."""
    return _metric(name, similarity)


@METRICS.register("needle_cdme_trim")
def needle_cdme_trim(name: str = NAME) -> Metric:
    """CDME: the similarity to the needle, of the answer cut to about the needle's length."""
    return _metric(name, lambda answer, gold: similarity(trimmed(_bare(answer), _needle(gold)), gold))


@METRICS.register("needle_retrieval")
def needle_retrieval(name: str = NAME) -> Metric:
    """Percent of the keywords that are in the answer, and for each depth the percent of answers with its keyword.

    The gold is `keyword*keyword#depth*depth`, keyword i at depth i; depths are results called `Depth<d>`.
    """

    def judge(case: Case) -> dict[str, float]:
        hits = {f"Depth{d}": float(word in str(case.answer)) for word, d in zip(*_placed(case.gold), strict=True)}
        return {VALUE: stats.mean(list(hits.values())), **hits}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        depths = list(dict.fromkeys(key for j in judged for key in j.values if key != VALUE))
        columns = {d: [float(j.values[d]) for j in judged if d in j.values] for d in depths}
        by_depth = {d: 100.0 * stats.mean(values) for d, values in columns.items()}
        return {name: stats.mean(list(by_depth.values())), **by_depth} if judged else {}

    def check(case: Case) -> str:
        words, depths = _placed(case.gold) if isinstance(case.gold, str) else ([], [])
        fits = len(words) == len(depths) > 0 and all(w.strip() for w in words) and len(set(depths)) == len(depths)
        return "" if fits else f"{shown(case.gold)} is not `keyword*keyword#depth*depth`"

    return Metric(name, each(judge), combine, check_gold=check)


@METRICS.register("needle_words")
def needle_words(name: str = NAME) -> Metric:
    """NeedleBench v1's reasoning: percent of the keyword's words that are in the answer, case aside.

    The gold is `needle*keyword`; words are parted by white space.
    """

    def share(answer: str, gold: str) -> float:
        words = gold.partition("*")[2].lower().split()
        return sum(word in answer.lower() for word in words) / len(words)

    return _metric(name, share, by_keyword=True)


def _placed(gold: str) -> tuple[list[str], list[str]]:
    """(keywords, depths) of `keyword*keyword#depth*depth`."""
    words, _, depths = gold.rpartition("#")
    return words.split("*"), depths.split("*")


def _metric(name: str, score: Callable[[str, str], float], by_keyword: bool = False) -> Metric:
    def judge(case: Case) -> dict[str, float]:
        return {VALUE: score(str(case.answer), str(case.gold))}

    def check(case: Case) -> str:
        fault = one_text(case.gold)
        if not fault and not _needle(case.gold):
            fault = f"{shown(case.gold)} has no needle"
        if not fault and by_keyword and not case.gold.partition("*")[2].strip():
            fault = f"{shown(case.gold)} has no keyword: write `needle*keyword`"
        return fault

    return Metric(name, each(judge), mean_percent(name), check_gold=check)


def _bare(text: str) -> str:
    """Without any white space."""
    return "".join(text.split())


def _needle(gold: str) -> str:
    return _bare(gold.partition("*")[0])


def _has(answer: str, gold: str) -> bool:
    """Whether the keyword is in the raw answer, white space and case as they are."""
    return gold.partition("*")[2] in answer


def similarity(answer: str, gold: str) -> float:
    """1 minus the edit distance over the longer length, white space aside; 1 for two empty texts."""
    said, needle = _bare(answer), _needle(gold)
    longest = max(len(said), len(needle))
    return 1.0 - distance(said, needle) / longest if longest else 1.0


def trimmed(said: str, needle: str) -> str:
    """At most 1.2 needle lengths, and behind 0.8 of one only up to the needle's last character."""
    least, most = int(0.8 * len(needle)), int(1.2 * len(needle))
    said = said[:most]
    end = said.find(needle[-1], least) if needle else -1
    return said[: end + 1] if end >= 0 else said


def distance(a: str, b: str) -> int:
    """Levenshtein distance: insertions, deletions and substitutions, one each.

    Myers' bit-parallel algorithm (1999) in Hyyrö's form (2003): a column of the table is two whole
    numbers of differences, so a step costs a few operations on numbers as long as the shorter text.
    """
    short, long = sorted((a, b), key=len)
    if not short:
        return len(long)
    places: dict[str, int] = {}
    for i, character in enumerate(short):
        places[character] = places.get(character, 0) | 1 << i
    full, last = (1 << len(short)) - 1, 1 << (len(short) - 1)
    up, down, found = full, 0, len(short)
    for character in long:
        match = places.get(character, 0)
        zero = (((match & up) + up) ^ up) | match | down
        right_up, right_down = down | ~(zero | up) & full, up & zero
        found += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = right_up << 1 | 1, right_down << 1
        up, down = (right_down | ~(zero | right_up)) & full, right_up & zero & full
    return found
