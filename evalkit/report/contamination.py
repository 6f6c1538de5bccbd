"""The contamination section of a report: losses and their differences, accuracies by annotation, and what they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evalkit.core.calls import make_contrast
from evalkit.core.records import Benchmark, Score
from evalkit.report.table import ABSENT
from evalkit.scoring.contrasts import AUC, METRIC
from evalkit.scoring.metrics.contamination import KINDS

TITLE = "Contamination"
LOSSES = (
    "Losses are nats a token, each text with weight 1. delta1 = L(test) - L(ref): clearly negative where the test set",
    "may have been trained on. delta2 = L(test) - L(train): clearly positive where the train set was fitted closer.",
    "They show a difference between sets, not its cause: a reference set of another origin, length or style shifts",
    "delta1 without any training on the test set, and a model that was trained on both splits shows no delta2.",
    "p is one-sided, of 9999 random exchanges of texts between two sets: how sure a difference is, not how large.",
)
PAIRED = (
    "L(original) - L(paraphrase), over pairs: clearly negative where the originals were trained on. It cannot tell it",
    "from paraphrases that are less fluent by themselves: compare with a model that cannot have seen the originals.",
    "p is one-sided, of 9999 random exchanges within the pairs.",
)
MEMBERS = (
    "Min-K% is the mean log-probability of the least likely tokens of a text, Min-K%++ that of their deviations from",
    "what the model expects at their place. AUC is how often a text of the first set has the higher value than one of",
    "the second, in percent: 50 where the sets are alike, clearly more where the first was trained on. They tell sets",
    "apart, not single texts, and see a difference of topic, date or style just as well: the reference must be of one",
    "kind with the set. Texts that a large training saw once leave hardly a trace, so an AUC of 50 clears nothing.",
    "p is one-sided, of 9999 random exchanges of texts between two sets; of many rows some have a low one by chance.",
)
KIND_NOTES = (
    "Accuracies by what a search of crawled texts brought up of each item. Close together: light contamination; rising",
    "from clean to input-and-label: heavy. The search says what was public, not what a model was trained on, and the",
    "three kinds differ in difficulty too: compare models with each other. Items without an annotation are in none.",
)


def section(benchmarks: Mapping[str, Benchmark], scores: Sequence[Score], style: str = "simple") -> str:
    """The section as text (`simple`) or markdown (`github`); empty for runs without such benchmarks."""
    contrasts = (_gaps, _pairs, _members)
    parts = [part for make in contrasts for part in make(benchmarks, scores, style)]
    parts += _kinds(scores, style)
    if not parts:
        return ""
    title = TITLE if style == "simple" else f"## {TITLE}"
    return "\n\n".join([title, *parts]) + "\n"


def absent_sets(benchmarks: Mapping[str, Benchmark], scores: Sequence[Score]) -> list[str]:
    """What must be said of optional subsets that were not there."""
    rows = {s.row for s in scores}
    return [
        f"{b.name}: no {m.name} set, {b.part(m.variables).data.optional}; what depends on it is left out"
        for b in benchmarks.values()
        for m in b.members
        if b.part(m.variables).data.optional and f"{b.row}-{m.name}" not in rows
    ]


def _gaps(benchmarks: Mapping[str, Benchmark], scores: Sequence[Score], style: str) -> Iterator[str]:
    rows = []
    for model, benchmark, found in _contrasted(benchmarks, scores, "loss_gaps"):
        assert benchmark.contrast is not None
        test, train, reference = make_contrast(benchmark.contrast).subsets
        losses = [_value(found.get(subset)) for subset in (train, test, reference)]
        gaps = [cell for name in ("delta1", "delta2") for cell in _gap(found.get(name))]
        rows.append([benchmark.row, model, *losses, *gaps])
    if rows:
        head = ["benchmark", "model", "L(train)", "L(test)", "L(ref)", "delta1", "p", "delta2", "p"]
        yield _grid(rows, head, style)
        yield "\n".join([*LOSSES, *(a for a in absent_sets(benchmarks, scores))])


def _pairs(benchmarks: Mapping[str, Benchmark], scores: Sequence[Score], style: str) -> Iterator[str]:
    rows = []
    for model, benchmark, found in _contrasted(benchmarks, scores, "paired_loss"):
        assert benchmark.contrast is not None
        losses = [_value(found.get(subset)) for subset in make_contrast(benchmark.contrast).subsets]
        pairs = found.get("paired")
        rows.append([benchmark.row, model, str(pairs.n) if pairs else ABSENT, *losses, *_gap(pairs)])
    if rows:
        yield _grid(rows, ["benchmark", "model", "pairs", "L(original)", "L(paraphrase)", "difference", "p"], style)
        yield "\n".join(PAIRED)


def _members(benchmarks: Mapping[str, Benchmark], scores: Sequence[Score], style: str) -> Iterator[str]:
    rows = []
    for model, benchmark, found in _contrasted(benchmarks, scores, "membership"):
        for method, prefix in (("Min-K%", "min_k-"), ("Min-K%++", "min_k_pp-")):
            cells = [cell for name in ("test", "train", "splits") for cell in _auc(found.get(prefix + name))]
            rows.append([benchmark.row, model, method, *cells])
    if rows:
        head = ["benchmark", "model", "method", "test:ref", "p", "train:ref", "p", "train:test", "p"]
        yield _grid(rows, head, style)
        yield "\n".join([*MEMBERS, *absent_sets(benchmarks, scores)])


def _auc(score: Score | None) -> tuple[str, str]:
    """(AUC, p-value)"""
    if score is None or score.value is None or score.p_value is None or score.metric != AUC:
        return ABSENT, ABSENT
    return f"{score.value:.1f}", f"{score.p_value:.4f}"


def _kinds(scores: Sequence[Score], style: str) -> Iterator[str]:
    """One line a model and headline or group."""
    lines: dict[tuple[str, str], dict[str, Score]] = {}
    for score in scores:
        if score.metric in KINDS.values():
            lines.setdefault((score.row, score.model), {})[score.metric] = score
    groups = {s.row for s in scores if s.level != "subset"}
    rows = []
    for (row, model), found in lines.items():
        if row in groups:
            kinds = [found.get(name) for name in KINDS.values()]
            rows.append([row, model, *(f"{_value(s, 2)} of {s.n}" if s else ABSENT for s in kinds)])
    if rows:
        yield _grid(rows, ["benchmark", "model", *(name.removeprefix("accuracy - ") for name in KINDS.values())], style)
        yield "\n".join(KIND_NOTES)


def _contrasted(
    benchmarks: Mapping[str, Benchmark], scores: Sequence[Score], contrast: str
) -> Iterator[tuple[str, Benchmark, dict[str, Score]]]:
    """(model, benchmark, end of a row's name -> its score) for every benchmark with this contrast."""
    for benchmark in benchmarks.values():
        if benchmark.contrast is None or benchmark.contrast.name != contrast:
            continue
        own = [s for s in scores if s.benchmark == benchmark.name]
        for model in dict.fromkeys(s.model for s in own):
            prefix = f"{benchmark.row}-"
            yield model, benchmark, {s.row.removeprefix(prefix): s for s in own if s.model == model}


def _value(score: Score | None, decimals: int = 3) -> str:
    return ABSENT if score is None or score.value is None else f"{score.value:.{decimals}f}"


def _gap(score: Score | None) -> tuple[str, str]:
    """(difference, p-value)"""
    if score is None or score.value is None or score.p_value is None or score.metric != METRIC:
        return ABSENT, ABSENT
    return f"{score.value:+.3f}", f"{score.p_value:.4f}"


def _grid(rows: Sequence[Sequence[str]], head: Sequence[str], style: str) -> str:
    from tabulate import tabulate

    align = ["left"] * 2 + ["right"] * (len(head) - 2)
    return str(tabulate(rows, head, tablefmt=style, colalign=align, disable_numparse=True))
