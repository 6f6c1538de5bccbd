"""Likeness of an answer to one or more gold texts: SQuAD's F1, ROUGE, BLEU, chrF."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from evalkit.core import stats
from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS, did_you_mean
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Tools, Values, each
from evalkit.scoring.metrics.golds import is_number, listed, texts
from evalkit.scoring.metrics.words import token_f1, without_articles

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7af]")
INSTALL = "pip install 'evalkit[text]'"


def _golds(gold: Any) -> list[str]:
    return [str(gold)] if is_number(gold) else list(map(str, listed(gold)))


def _check(case: Case) -> str:
    return "" if is_number(case.gold) else texts(case.gold)


def squad_words(text: str) -> list[str]:
    """Words in lower case without punctuation and articles, as SQuAD's script has them; Chinese by characters."""
    return HAN.sub(lambda han: f" {han[0]} ", without_articles(text)).split()


def squad_f1(answer: str, gold: str) -> float:
    """F1, 0 to 1, of the words in common; two texts without any are equal."""
    ours, theirs = squad_words(answer), squad_words(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    return token_f1(ours, theirs)


@METRICS.register("squad")
def squad(primary: str = "f1") -> Metric:
    """F1 and exact match of short answers by SQuAD's rule, percent; of several gold texts the best counts.

    Both compare words in lower case without ASCII punctuation and English articles; Chinese, Japanese and Korean
    count by characters. `primary`: f1 or exact_match.

    Example: answer `the Eiffel Tower, Paris`, gold `Eiffel Tower`: f1 80, exact_match 0.
    """
    names = ("f1", "exact_match")
    if primary not in names:
        raise ConfigError(f"squad gives no {primary!r}", did_you_mean(primary, names))

    def judge(case: Case) -> Values:
        golds, answer = _golds(case.gold), str(case.answer)
        values = {
            "f1": max(squad_f1(answer, gold) for gold in golds),
            "exact_match": float(any(squad_words(answer) == squad_words(gold) for gold in golds)),
        }
        return {VALUE: values[primary], **values}

    return Metric(primary, each(judge), _means(primary, names), check_gold=_check)


@METRICS.register("rouge")
def rouge(primary: str = "rougeL", stemmer: bool = False) -> Metric:
    """ROUGE-1, -2, -L and -Lsum (F1), percent, by the rouge-score library; of several gold texts the best counts.

    `primary`: rouge1, rouge2, rougeL or rougeLsum; `stemmer`: Porter's, for English. Words are runs of letters and
    digits in lower case; Chinese, Japanese and Korean count by characters.

    Example: answer `the cat sat`, gold `the cat sat down`: rougeL 85.7.
    """
    names = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    if primary not in names:
        raise ConfigError(f"rouge gives no {primary!r}", did_you_mean(primary, names))

    def judge(cases: Sequence[Case], tools: Tools) -> list[Values]:
        scorer = _rouge_scorer(names, stemmer)
        found: list[Values] = []
        for case in cases:
            scores = scorer.score_multi(_golds(case.gold), str(case.answer))
            values = {name: float(scores[name].fmeasure) for name in names}
            found.append({VALUE: values[primary], **values})
        return found

    return Metric(primary, judge, _means(primary, names), check_gold=_check)


def _rouge_scorer(names: Sequence[str], stemmer: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer
    except ImportError as error:
        raise ConfigError(f"rouge needs the package rouge-score: {error}", INSTALL) from error

    class Words(DefaultTokenizer):  # type: ignore[misc]
        """The library's words, where it would drop Chinese characters by characters."""

        def tokenize(self, text: str) -> list[str]:
            pieces: list[str] = []
            for part in re.split(f"({HAN.pattern})", text):
                pieces += [part] if HAN.fullmatch(part) else super().tokenize(part)
            return pieces

    return RougeScorer(list(names), tokenizer=Words(stemmer))


@METRICS.register("bleu")
def bleu(tokenize: str = "13a", lowercase: bool = False) -> Metric:
    """BLEU of the whole subset, 0 to 100, by sacrebleu; a gold may be several texts.

    `tokenize`: 13a, intl, zh (Chinese), char or none. Samples have no value of their own, so there is no standard
    error.

    Example: `{bleu: {tokenize: zh}}` for translations into Chinese.
    """
    return _corpus("bleu", lambda library: library.BLEU(tokenize=tokenize, lowercase=lowercase))


@METRICS.register("chrf")
def chrf(word_order: int = 0) -> Metric:
    """chrF of the whole subset, 0 to 100, by sacrebleu; `word_order: 2` gives chrF++. A gold may be several texts.

    Example: `{chrf: {word_order: 2}}` for translations.
    """
    return _corpus("chrf", lambda library: library.CHRF(word_order=word_order))


def _corpus(name: str, make: Callable[[Any], Any]) -> Metric:
    """A metric of sacrebleu over all samples at once."""

    def judge(case: Case) -> Values:
        return {"answer": str(case.answer), "golds": _golds(case.gold)}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        if not judged:
            return {}
        try:
            scorer = make(_sacrebleu())
        except (ValueError, AssertionError, KeyError, TypeError) as error:
            raise ConfigError(f"{name}: {error}", "see its arguments: `run.py list metrics`") from error
        most = max(len(j.values["golds"]) for j in judged)
        references = [[_nth(j.values["golds"], n) for j in judged] for n in range(most)]
        return {name: float(scorer.corpus_score([j.values["answer"] for j in judged], references).score)}

    return Metric(name, each(judge), combine, check_gold=_check)


def _nth(golds: Sequence[str], number: int) -> str | None:
    """One of the golds; sacrebleu takes None where a sample has fewer than others."""
    return golds[number] if number < len(golds) else None


def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics as library
    except ImportError as error:
        raise ConfigError(f"bleu and chrf need the package sacrebleu: {error}", INSTALL) from error
    return library


def _means(primary: str, names: Sequence[str]) -> Callable[[Sequence[Judged]], dict[str, float]]:
    """The means of several values a sample, percent, the primary one first."""

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        ordered = (primary, *(name for name in names if name != primary))
        return {name: 100.0 * stats.mean([j.values[name] for j in judged]) for name in ordered} if judged else {}

    return combine
