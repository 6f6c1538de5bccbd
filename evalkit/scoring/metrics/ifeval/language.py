"""Instructions about language and case."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from evalkit.scoring.metrics.ifeval.base import CHECKS, Number, holds
from evalkit.scoring.metrics.ifeval.sentences import words

SEED = 0
"""langdetect draws at random; the reference leaves it unseeded, so that short texts may vary there."""


@CHECKS.register("language:response_language")
def response_language(text: str, language: str) -> bool:
    """The response is in the language; a text without any letters counts as followed."""
    return detected(text) in (language, "")


@CHECKS.register("change_case:english_capital")
def english_capital(text: str) -> bool:
    """The response is English, all in capitals."""
    return text.isupper() and detected(text) in ("en", "")


@CHECKS.register("change_case:english_lowercase")
def english_lowercase(text: str) -> bool:
    """The response is English, all in lower case."""
    return text.islower() and detected(text) in ("en", "")


@CHECKS.register("change_case:capital_word_frequency")
def capital_word_frequency(text: str, capital_frequency: Number, capital_relation: str) -> bool:
    """So many words are all in capitals; `I` and `A` count, and a word with hyphens is one."""
    return holds(sum(word.isupper() for word in words(text)), capital_relation, capital_frequency)


@lru_cache(maxsize=1024)
def detected(text: str) -> str:
    """Code of the text's language as langdetect sees it; empty when it finds nothing to go by."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _factory().create()
    detector.append(text)
    try:
        code: str = detector.detect()
    except LangDetectException:
        return ""
    return code


@lru_cache(maxsize=1)
def _factory() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()  # one of our own: a seed of the module's would hold for its other users too
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(SEED)
    return factory
