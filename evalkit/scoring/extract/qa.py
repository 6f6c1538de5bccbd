"""Clean-up of short answers to questions (protocol sheets: triviaqa, nq)."""

from __future__ import annotations

import re

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

CLAUSE_END = re.compile(r"[\n.,]")
NO_WORD = re.compile(r"[^\w\s]")
ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)


@STEPS.register("first_clause")
def first_clause(text: str, context: Context) -> str:
    """The text before the first newline, full stop or comma, ASCII ones only.

    Published scores need it on both sides: it leaves `St` of `St. Louis` and `1` of `1,000`.
    """
    return CLAUSE_END.split(text, maxsplit=1)[0]


@STEPS.register("bare_words")
def bare_words(text: str, context: Context) -> str:
    """Without punctuation and English articles, with single spaces.

    Punctuation is what is neither a word character nor white space. It is deleted, not replaced:
    `Jean-Paul` becomes one word. Case and accents stay.
    """
    return " ".join(ARTICLES.sub("", NO_WORD.sub("", text)).split())
