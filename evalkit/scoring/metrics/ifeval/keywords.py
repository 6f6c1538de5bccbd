"""Instructions about single words and letters."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.scoring.metrics.ifeval.base import CHECKS, Number, holds, matches


@CHECKS.register("keywords:existence")
def existence(text: str, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, inside of words too; a keyword is a regular expression."""
    return all(matches(keyword, text) for keyword in keywords)


@CHECKS.register("keywords:frequency")
def frequency(text: str, keyword: str, frequency: Number, relation: str) -> bool:
    """The keyword occurs so often, inside of words too, without overlap."""
    return holds(matches(keyword.strip(), text), relation, frequency)


@CHECKS.register("keywords:forbidden_words")
def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """No such word occurs as a whole word."""
    return not any(matches(rf"\b{word}\b", text) for word in forbidden_words)


@CHECKS.register("keywords:letter_frequency")
def letter_frequency(text: str, letter: str, let_frequency: Number, let_relation: str) -> bool:
    """The letter occurs so often, case ignored.

    For a character that is no letter (`#` and `!`, once each in the data) the reference draws a random
    letter; here the character itself is counted.
    """
    return holds(text.lower().count(letter.lower()), let_relation, let_frequency)


@CHECKS.register("punctuation:no_comma")
def no_comma(text: str) -> bool:
    """There is no ASCII comma."""
    return "," not in text
