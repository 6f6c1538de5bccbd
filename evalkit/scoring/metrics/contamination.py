"""Metrics of a contamination assessment: losses of texts, and accuracy by what is known of an item (protocol sheet:
contamination)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.core import stats
from evalkit.core.errors import ConfigError
from evalkit.core.registry import METRICS
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Values, each
from evalkit.scoring.metrics.golds import text_or_number

LOSS = "loss"
"""A text's mean loss in nats a token, in its values."""
MIN_K, MIN_K_PP = "min_k", "min_k_pp"
"""A text's Min-K% and Min-K%++, in its values."""
DIGITS = 6
"""Decimals of a kept loss: the further ones depend on how requests were batched."""
ANNOTATION = "annotation"
"""Column of a row, and key of a sample's values: the kind of its contamination."""
KINDS: Mapping[str, str] = {
    "clean": "accuracy - clean",
    "input contamination": "accuracy - input contaminated",
    "input-and-label contamination": "accuracy - input-and-label contaminated",
}
"""Annotation -> the result over the items that have it."""


@METRICS.register("mean_loss")
def mean_loss(name: str = LOSS) -> Metric:
    """Mean over texts of a text's loss, in nats a token and not in percent; every text has weight 1.

    The loss of a text is that of mode ppl: cross-entropy of the tokens 2..N, divided by all N tokens.
    The config has one label, the text.
    """

    def judge(case: Case) -> Values:
        if len(case.scores) != 1:
            raise ConfigError("mean_loss takes the loss of one text", "mode: ppl, labels: [text]")
        return {LOSS: round(next(iter(case.scores.values())), DIGITS)}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        return {name: stats.mean([float(j.values[LOSS]) for j in judged])} if judged else {}

    return Metric(name, each(judge), combine, uses_scores=True, uses_gold=False)


@METRICS.register("min_k")
def min_k(k: float = 20.0) -> Metric:
    """Min-K% Prob (Shi et al., 2024) and Min-K%++ (Zhang et al., 2024): a text by its least likely tokens.

    Min-K% is the mean log-probability, in nats, of the k percent of a text's tokens that have the lowest; Min-K%++
    the same of log-probabilities less the mean of the distribution at their place, in its standard deviations. Both
    are higher for texts that were trained on. A text of so few tokens that k percent is none is judged by one.
    A text's loss is among its values too. Means over texts, not in percent; the config has one label, the text.
    """
    if not 0 < k <= 100:
        raise ConfigError(f"min_k takes a share of the tokens in percent, not {k}", "min_k: 20")
    names = {MIN_K: f"min-{k:g}%", MIN_K_PP: f"min-{k:g}%++"}

    def judge(case: Case) -> Values:
        logs, deviations = (case.reply.token_logs, case.reply.token_deviations) if case.reply else (None, None)
        if not logs or not deviations:
            raise ConfigError("min_k takes the tokens of one text", "mode: ppl, labels: [text]")
        loss = round(next(iter(case.scores.values())), DIGITS)
        return {LOSS: loss, MIN_K: lowest_mean(logs, k), MIN_K_PP: lowest_mean(deviations, k)}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        return {n: stats.mean([float(j.values[v]) for j in judged]) for v, n in names.items()} if judged else {}

    return Metric(names[MIN_K], each(judge), combine, uses_scores=True, uses_gold=False, uses_tokens=True)


def lowest_mean(values: Sequence[float], percent: float) -> float:
    """The mean of the lowest `percent` of the values, rounded down, of one at least."""
    count = max(1, int(len(values) * percent / 100))
    return round(stats.mean(sorted(values)[:count]), DIGITS)


@METRICS.register("accuracy_by_annotation")
def accuracy_by_annotation() -> Metric:
    """Accuracy of all items, and of the clean, the input-contaminated and the input-and-label-contaminated ones.

    The kind of an item is the column `annotation` of its row (row builder `annotated`). Items without one count
    in the accuracy of all and in no other. Over several subsets a kind's accuracy is weighted by its items, so it
    is the pooled one.
    """

    def judge(case: Case) -> Values:
        kind = case.row.get(ANNOTATION, "")
        if kind and kind not in KINDS:
            raise ConfigError(f"{case.sample_id} is annotated {kind!r}", f"known: {', '.join(KINDS)}")
        return {VALUE: 1.0 if case.answer == case.gold else 0.0, ANNOTATION: kind}

    def parted(judged: Sequence[Judged]) -> dict[str, list[float]]:
        parts: dict[str, list[float]] = {}
        for item in judged:
            if item.values[ANNOTATION]:
                parts.setdefault(KINDS[item.values[ANNOTATION]], []).append(float(item.values[VALUE]))
        return {name: parts[name] for name in KINDS.values() if name in parts}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        every = {"accuracy": [float(j.values[VALUE]) for j in judged]} if judged else {}
        return {name: 100.0 * stats.mean(values) for name, values in {**every, **parted(judged)}.items()}

    def counts(judged: Sequence[Judged]) -> dict[str, int]:
        return {name: len(values) for name, values in parted(judged).items()}

    def check(case: Case) -> str:
        return text_or_number(case.gold)

    return Metric("accuracy", each(judge), combine, needs_row=True, counts=counts, check_gold=check)
