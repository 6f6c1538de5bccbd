"""Comparisons between the subsets of a benchmark, with permutation p-values (protocol sheet: contamination).

A contrast is a registered function that a config names under `contrast`; it sees the verdicts' values of every subset
and gives rows for the table. Losses are in nats a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evalkit.core import stats
from evalkit.core.errors import DataError
from evalkit.core.records import Verdict
from evalkit.core.registry import CONTRASTS
from evalkit.scoring.metrics.contamination import LOSS, MIN_K, MIN_K_PP

METRIC = "loss difference"
AUC = "AUC"
"""Percent of the pairs of texts, one of each subset, in which the first subset's is higher; ties count half."""
PERMUTATIONS = 9999
Losses = Mapping[int, float]
"""Number of a row -> the loss of its text."""


@dataclass(frozen=True)
class SubsetDifference:
    """A difference of mean losses between two subsets."""

    name: str
    """End of its row's name."""
    value: float
    """Nats a token."""
    p: float
    """One-sided: how often as large a difference arises where the texts could as well be exchanged."""
    n: int
    """Texts it is over."""
    metric: str = METRIC


@dataclass(frozen=True)
class Contrast:
    """A comparison that a config asks for."""

    subsets: tuple[str, ...]
    """Those that it looks at; the differences whose subsets are not all there are left out."""
    compare: Callable[[Mapping[str, Losses]], list[SubsetDifference]]
    values: Mapping[str, str] = field(default_factory=lambda: {LOSS: ""})
    """The values of texts that are compared, each on its own -> what stands in front of its differences' names."""

    def of(self, verdicts: Mapping[str, Sequence[Verdict]]) -> list[SubsetDifference]:
        """The differences between subsets, for every value."""
        found = []
        for value, prefix in self.values.items():
            texts = {subset: values_of(judged, value) for subset, judged in verdicts.items()}
            found += [replace(d, name=prefix + d.name) for d in self.compare(texts)]
        return found


def values_of(verdicts: Sequence[Verdict], value: str = LOSS) -> dict[int, float]:
    """A value of a subset's answered texts, by the number of the row."""
    return {int(v.sample_id.rsplit("/", 1)[1]): float(v.values[value]) for v in verdicts if value in v.values}


@CONTRASTS.register("loss_gaps")
def loss_gaps(test: str = "test", train: str = "train", reference: str = "ref") -> Contrast:
    """Δ1 = L(test) − L(reference) and Δ2 = L(test) − L(train), named as in Skywork's table (2023, section 5.2).

    p of Δ1: of as low a test loss, p of Δ2: of as low a train loss, if the texts' sets were drawn at random.
    """

    def compare(losses: Mapping[str, Losses]) -> list[SubsetDifference]:
        found = []
        for name, low, high, sign in (("delta1", test, reference, -1.0), ("delta2", train, test, 1.0)):
            if losses.get(low) and losses.get(high):
                a, b = list(losses[low].values()), list(losses[high].values())
                gap = stats.mean(b) - stats.mean(a)
                found.append(
                    SubsetDifference(name, sign * gap, stats.permutation_p(a, b, PERMUTATIONS), len(a) + len(b))
                )
        return found

    return Contrast((test, train, reference), compare)


@CONTRASTS.register("paired_loss")
def paired_loss(original: str = "original", paraphrase: str = "paraphrase") -> Contrast:
    """L(original) − L(paraphrase) over pairs of one row; clearly negative where the originals were trained on.

    p: of as low losses of the originals, if in every pair either text could as well be the original (signs are
    flipped). DataError where a row has one of the two only.
    """

    def compare(losses: Mapping[str, Losses]) -> list[SubsetDifference]:
        a, b = losses.get(original, {}), losses.get(paraphrase, {})
        if not a or not b:
            return []
        if set(a) != set(b):
            row = min(set(a) ^ set(b))
            raise DataError(f"row {row} has an answer for one text of its pair only", "run the same command again")
        gaps = [a[row] - b[row] for row in sorted(a)]
        return [SubsetDifference("paired", stats.mean(gaps), stats.sign_flip_p(gaps, PERMUTATIONS), len(gaps))]

    return Contrast((original, paraphrase), compare)


@CONTRASTS.register("membership")
def membership(test: str = "test", train: str = "train", reference: str = "ref") -> Contrast:
    """How well Min-K% and Min-K%++ tell the texts of two sets apart: AUC in percent, 50 where they do not.

    Rows `…-test` and `…-train`: texts of that set against the reference's, which models cannot have seen; `…-splits`:
    train against test. p: of as high ranks of the first set's texts, if the texts' sets were drawn at random.
    """

    def compare(values: Mapping[str, Losses]) -> list[SubsetDifference]:
        found = []
        for name, first, second in (("test", test, reference), ("train", train, reference), ("splits", train, test)):
            if values.get(first) and values.get(second):
                a, b = list(values[first].values()), list(values[second].values())
                ranks = stats.ranks([*a, *b])
                high, low = ranks[: len(a)], ranks[len(a) :]
                auc = (sum(high) - len(a) * (len(a) + 1) / 2) / (len(a) * len(b))
                p = stats.permutation_p(low, high, PERMUTATIONS)
                found.append(SubsetDifference(name, 100.0 * auc, p, len(a) + len(b), AUC))
        return found

    return Contrast((test, train, reference), compare, {MIN_K: "min_k-", MIN_K_PP: "min_k_pp-"})
