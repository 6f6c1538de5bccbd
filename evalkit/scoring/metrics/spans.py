"""Answers that are spans of a Chinese text (protocol sheet: cmrc)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from evalkit.core import stats
from evalkit.core.registry import METRICS
from evalkit.scoring.extract.qa import bare_words, first_clause
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Values, each, mean_percent
from evalkit.scoring.metrics.golds import listed, texts
from evalkit.scoring.metrics.words import f_measure

HAN = re.compile(r"[\u4e00-\u9fff]")
EXACT, OWN_EXACT, OWN_F1 = "exact_match", "em", "f1"


@METRICS.register("span_match")
def span_match() -> Metric:
    """Percent of answers that equal one of the gold texts after normalisation (`exact_match`); of two secondary kinds.

    Normalised: cut at the first newline, ASCII full stop or comma, then without punctuation and English articles.
    A normalised answer may also equal a gold as it is. `em` and `f1` are defined as in the benchmark's own script:
    without punctuation and in lower case, equal, or the F1 of the longest run in common. The script lists its
    punctuation; here it is all that Unicode counts as punctuation or symbol.
    """

    def judge(case: Case) -> Values:
        golds = listed(case.gold)
        return {
            VALUE: float(matches(case.answer, golds)),
            OWN_EXACT: float(any("".join(units(case.answer)) == "".join(units(g)) for g in golds)),
            OWN_F1: max(run_f1(case.answer, gold) for gold in golds),
        }

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        own = {n: 100.0 * stats.mean([j.values[n] for j in judged]) for n in (OWN_EXACT, OWN_F1)} if judged else {}
        return {**mean_percent(EXACT)(judged), **own}

    return Metric(EXACT, each(judge), combine, check_gold=lambda case: texts(case.gold))


def matches(answer: str, golds: Sequence[str]) -> bool:
    """Whether the normalised answer is one of the golds, normalised or as they are."""
    plain = normalised(answer)
    return any(plain in (normalised(gold), gold) for gold in golds)


def normalised(text: str) -> str:
    """The first clause without punctuation, English articles and repeated white space."""
    return bare_words(first_clause(text, {}), {})


def units(text: str) -> list[str]:
    """Chinese characters one by one, other text by words; without punctuation, in lower case."""
    lowered = "".join(c for c in text.lower() if not _is_punctuation(c))
    return HAN.sub(lambda han: f" {han[0]} ", lowered).split()


def run_f1(answer: str, gold: str) -> float:
    """F1, 0 to 1, of the longest run of units that both have: its share of the answer and its share of the gold."""
    ours, theirs = units(answer), units(gold)
    return f_measure(longest_run(ours, theirs), len(ours), len(theirs))


def longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Units in the longest contiguous sequence that stands in both."""
    best, before = 0, [0] * (len(other) + 1)
    for unit in one:
        row = [0] * (len(other) + 1)
        for at, against in enumerate(other, 1):
            if unit == against:
                row[at] = before[at - 1] + 1
                best = max(best, row[at])
        before = row
    return best


def _is_punctuation(character: str) -> bool:
    """Whether a character is punctuation or a symbol of any script."""
    return unicodedata.category(character)[0] in "PS"
