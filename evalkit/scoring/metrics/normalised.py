"""Accuracy of ll with log-probabilities divided by the length of what was scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.core import stats
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.registry import METRICS, did_you_mean
from evalkit.scoring.metrics.base import VALUE, Case, Judged, Metric, Values, each
from evalkit.scoring.metrics.exact import gold_steps, read_gold, same_text
from evalkit.scoring.metrics.golds import text_or_number

UNITS = ("characters", "bytes", "tokens")


@METRICS.register("acc_norm")
def acc_norm(by: str = "characters", gold: Any = ()) -> Metric:
    """ll: percent of samples whose gold has the highest log-probability for its length, and `accuracy` without that.

    `by`: characters or UTF-8 bytes of the continuation without the white space before it, or the tokens that were
    scored. `gold` names extraction steps that clean the gold. The first label wins a tie.

    Example: `{acc_norm: {by: tokens}}` where options differ much in length.
    """
    if by not in UNITS:
        raise ConfigError(f"acc_norm: by is {by!r}", did_you_mean(by, UNITS))
    steps = gold_steps(gold)

    def length(case: Case, label: str) -> int:
        text = case.continuations[label].lstrip()
        units = {"characters": len(text), "bytes": len(text.encode()), "tokens": case.tokens.get(label, 0)}[by]
        if units < 1:
            raise DataError(
                f"{case.sample_id}: the length of {label!r} in {by} is not known",
                "its reply is of an engine or version that does not say: ask again with --new, or take by: characters",
            )
        return units

    def best(case: Case) -> Any:
        """The label by log-probability over length; without scores (a gold is looked at) the answer itself."""
        if not case.scores:
            return case.answer
        rates = {label: nll / length(case, label) for label, nll in case.scores.items()}
        return min(rates, key=lambda label: rates[label])

    def judge(case: Case) -> Values:
        chosen, wanted = best(case), read_gold(case, steps)
        right = {VALUE: float(same_text(chosen, wanted)), "accuracy": float(same_text(case.answer, wanted))}
        return {**right, "chosen": chosen}

    def combine(judged: Sequence[Judged]) -> dict[str, float]:
        if not judged:
            return {}
        return {
            "acc_norm": 100.0 * stats.mean([j.values[VALUE] for j in judged]),
            "accuracy": 100.0 * stats.mean([j.values["accuracy"] for j in judged]),
        }

    def check(case: Case) -> str:
        return text_or_number(read_gold(case, steps))

    return Metric("acc_norm", each(judge), combine, check_gold=check, needs_row=True, uses_lengths=True)
