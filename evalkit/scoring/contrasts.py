"""Comparisons between the subsets of a benchmark, with permutation p-values (protocol sheet: contamination).

A contrast is a registered function that a config names under `contrast`; it sees the verdicts' values of every subset
and gives rows for the table. Losses are in nats a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evalkit.core import stats
from evalkit.core.errors import DataError
from evalkit.core.records import Verdict
from evalkit.core.registry import CONTRASTS
from evalkit.scoring.metrics.contamination import LOSS

METRIC = "loss difference"
PERMUTATIONS = 9999
Losses = Mapping[int, float]
"""Number of a row -> the loss of its text."""


@dataclass(frozen=True)
class LossDifference:
    """A difference of mean losses between two subsets."""

    name: str
    """End of its row's name."""
    value: float
    """Nats a token."""
    p: float
    """One-sided: how often as large a difference arises where the texts could as well be exchanged."""
    n: int
    """Texts it is over."""


@dataclass(frozen=True)
class Contrast:
    """A comparison that a config asks for."""

    subsets: tuple[str, ...]
    """Those that it looks at; the differences whose subsets are not all there are left out."""
    compare: Callable[[Mapping[str, Losses]], list[LossDifference]]


def losses_of(verdicts: Sequence[Verdict]) -> dict[int, float]:
    """The losses of a subset's answered texts, by the number of the row."""
    return {int(v.sample_id.rsplit("/", 1)[1]): float(v.values[LOSS]) for v in verdicts if LOSS in v.values}


@CONTRASTS.register("loss_gaps")
def loss_gaps(test: str = "test", train: str = "train", reference: str = "ref") -> Contrast:
    """Δ1 = L(test) − L(reference) and Δ2 = L(test) − L(train), named as in Skywork's table (2023, section 5.2).

    p of Δ1: of as low a test loss, p of Δ2: of as low a train loss, if the texts' sets were drawn at random.
    """

    def compare(losses: Mapping[str, Losses]) -> list[LossDifference]:
        found = []
        for name, low, high, sign in (("delta1", test, reference, -1.0), ("delta2", train, test, 1.0)):
            if losses.get(low) and losses.get(high):
                a, b = list(losses[low].values()), list(losses[high].values())
                gap = stats.mean(b) - stats.mean(a)
                found.append(LossDifference(name, sign * gap, stats.permutation_p(a, b, PERMUTATIONS), len(a) + len(b)))
        return found

    return Contrast((test, train, reference), compare)


@CONTRASTS.register("paired_loss")
def paired_loss(original: str = "original", paraphrase: str = "paraphrase") -> Contrast:
    """L(original) − L(paraphrase) over pairs of one row; clearly negative where the originals were trained on.

    p: of as low losses of the originals, if in every pair either text could as well be the original (signs are
    flipped). DataError where a row has one of the two only.
    """

    def compare(losses: Mapping[str, Losses]) -> list[LossDifference]:
        a, b = losses.get(original, {}), losses.get(paraphrase, {})
        if not a or not b:
            return []
        if set(a) != set(b):
            row = min(set(a) ^ set(b))
            raise DataError(f"row {row} has an answer for one text of its pair only", "run the same command again")
        gaps = [a[row] - b[row] for row in sorted(a)]
        return [LossDifference("paired", stats.mean(gaps), stats.sign_flip_p(gaps, PERMUTATIONS), len(gaps))]

    return Contrast((original, paraphrase), compare)
