"""Words that two texts have in common."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")


def english_words(text: str) -> list[str]:
    """Lower-case words, ASCII punctuation deleted (which joins words), articles left out."""
    return without_articles(text).split()


def without_articles(text: str) -> str:
    """The text in lower case without ASCII punctuation, spaces in the place of articles."""
    return ARTICLES.sub(" ", "".join(c for c in text.lower() if c not in string.punctuation))


def token_f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """F1, 0 to 1, of the tokens in common, each as often as it stands in both."""
    return f_measure(sum((Counter(answer) & Counter(gold)).values()), len(answer), len(gold))


def f_measure(common: int, answer: int, gold: int) -> float:
    """The harmonic mean of `common` over the answer's size and over the gold's; 0 where nothing is in common."""
    if not common:
        return 0.0
    precision, recall = common / answer, common / gold
    return 2 * precision * recall / (precision + recall)
