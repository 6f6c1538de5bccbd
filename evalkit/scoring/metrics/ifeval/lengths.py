"""Instructions about how long a response is."""

from __future__ import annotations

import re

from evalkit.scoring.metrics.ifeval.base import CHECKS, Number, holds
from evalkit.scoring.metrics.ifeval.sentences import sentences

DIVIDER = re.compile(r"\s?\*\*\*\s?")
WORD = re.compile(r"\w+")
FIRST_WORD_END = re.compile(r"[.,?!'\"]")


@CHECKS.register("length_constraints:number_sentences")
def number_sentences(text: str, num_sentences: Number, relation: str) -> bool:
    """So many English sentences."""
    return holds(len(sentences(text)), relation, num_sentences)


@CHECKS.register("length_constraints:number_words")
def number_words(text: str, num_words: Number, relation: str) -> bool:
    """So many runs of word characters; `it's` counts twice."""
    return holds(len(WORD.findall(text)), relation, num_words)


@CHECKS.register("length_constraints:number_paragraphs")
def number_paragraphs(text: str, num_paragraphs: Number) -> bool:
    """Exactly so many paragraphs, parted by `***`; a blank one may only stand first or last and does not count."""
    pieces = DIVIDER.split(text)
    blank = [i for i, piece in enumerate(pieces) if not piece.strip()]
    if any(0 < i < len(pieces) - 1 for i in blank):
        return False
    return len(pieces) - len(blank) == num_paragraphs


@CHECKS.register("length_constraints:nth_paragraph_first_word")
def nth_paragraph_first_word(text: str, num_paragraphs: Number, nth_paragraph: Number, first_word: str) -> bool:
    """Exactly so many paragraphs, parted by two newlines, and the nth begins with the word.

    Blank paragraphs do not count towards the number, but towards the place.
    """
    pieces = text.split("\n\n")
    count = sum(bool(piece.strip()) for piece in pieces)
    if nth_paragraph > count:
        return False
    found = pieces[int(nth_paragraph) - 1].split()
    if not found:
        return False
    word = FIRST_WORD_END.split(found[0].lstrip("'").lstrip('"'))[0]
    return count == num_paragraphs and word.lower() == first_word.lower()
