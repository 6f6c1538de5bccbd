"""Two runs sample by sample: paired differences, the samples that flipped, and what was unlike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core import stats
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Score, Verdict
from evalkit.plan.plan import Pair
from evalkit.report.gate import headlines
from evalkit.report.tables import markdown_cell
from evalkit.results.scored import StoredRun
from evalkit.scoring.aggregate import headline_parts, weights_of
from evalkit.scoring.metrics.base import VALUE

MCNEMAR, PERMUTATION, NORMAL = "McNemar, exact", "permutation", "normal"
SAME = 0.01
"""Points; a score and the mean of its samples that are further apart are not the same number."""
Pairs = Mapping[str, tuple[float, float]]
"""Sample id -> primary value (0 to 1) on each side; a mean over the draws, where there are several."""


@dataclass(frozen=True)
class Flip:
    """A sample that the two sides judge differently."""

    sample_id: str
    a: float
    b: float
    """Primary values, 0 to 1."""
    answer_a: Any
    answer_b: Any
    gold: Any


@dataclass(frozen=True)
class Difference:
    """One row of two runs: B minus A."""

    row: str
    a: Score
    b: Score
    interval: tuple[float, float] | None
    """95 %, in points; None where samples have no values of their own."""
    p: float | None
    """Two-sided, of no difference."""
    test: str
    n: int
    """Pairs: samples that both sides answered."""
    better: int
    """Samples that B does better than A."""
    worse: int
    flips: tuple[Flip, ...]
    """In sample order."""

    @property
    def diff(self) -> float | None:
        """Points."""
        return None if self.a.value is None or self.b.value is None else self.b.value - self.a.value


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    a: str
    b: str
    """Run and model."""
    differences: tuple[Difference, ...]
    unlike: tuple[str, ...]
    """What differed in the runs besides their answers."""
    only: tuple[str, ...]
    """Rows that one side alone has."""


def compare(a: StoredRun, b: StoredRun, models: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each pair of models: the two that are named, the only ones, or those of equal names."""
    return [_compare_models(a, b, *pair) for pair in _model_pairs(a, b, models)]


def _model_pairs(a: StoredRun, b: StoredRun, models: Sequence[str]) -> list[tuple[str, str]]:
    of_a, of_b = list(a.plan.models), list(b.plan.models)
    told = f"run A has {', '.join(of_a)}; run B has {', '.join(of_b)}"
    if models:
        if len(models) != 2 or models[0] not in of_a or models[1] not in of_b:
            raise ConfigError(f"--models {' '.join(models)}: no such pair", f"one model of each run; {told}")
        return [(models[0], models[1])]
    pairs = [(m, m) for m in of_a if m in of_b]
    if len(of_a) == len(of_b) == 1:
        pairs = [(of_a[0], of_b[0])]
    if not pairs:
        raise ConfigError("the runs have no model of one name", f"--models NAME_OF_A NAME_OF_B; {told}")
    return pairs


def _compare_models(a: StoredRun, b: StoredRun, model_a: str, model_b: str) -> Comparison:
    rows_a, rows_b = (
        {(s.row, s.benchmark): s for s in headlines(r.scores, m)} for r, m in ((a, model_a), (b, model_b))
    )
    matched = []
    for (row, benchmark), score in rows_a.items():
        # of one config where both ran it, else of any config with that row: mmlu by ppl and by gen
        other = rows_b.get((row, benchmark)) or next((s for (r, _), s in rows_b.items() if r == row), None)
        if other:
            matched.append((score, other))
    done = {id(s) for pair in matched for s in pair}
    only = [
        f"{r.store.name}: {s.row}" for r, rows in ((a, rows_a), (b, rows_b)) for s in rows.values() if id(s) not in done
    ]
    if not matched:
        raise ConfigError("the runs have no row in common", "compare runs of the same benchmarks")
    differences = tuple(_difference(a, b, one, two) for one, two in matched)
    unlike = tuple(_unlike_models(a, b, model_a, model_b)) + tuple(_unlike_benchmarks(a, b, matched))
    name_a, name_b = f"{a.store.name} {model_a}", f"{b.store.name} {model_b}"
    return Comparison(name_a, name_b, differences, unlike, tuple(only))


def _difference(a: StoredRun, b: StoredRun, one: Score, two: Score) -> Difference:
    benchmark = a.plan.benchmarks[one.benchmark]
    verdicts = [r.store.verdicts(s.model, s.benchmark) for r, s in ((a, one), (b, two))]
    subsets = list(dict.fromkeys(v.subset for v in verdicts[0]))
    members = headline_parts(benchmark, subsets).get(one.row, {})
    values_a, values_b = (_values(v, members) for v in verdicts)
    pairs = {i: (values_a[i], values_b[i]) for i in values_a if i in values_b}
    by_subset = {s: [(x, y) for i, (x, y) in pairs.items() if i.rpartition("/")[0] == s] for s in members}
    told = all(_is_mean(benchmark, members, v, s) for v, s in ((values_a, one), (values_b, two)))
    interval, p, test = _interval(benchmark, members, by_subset, one, two) if told else (None, None, "")
    flips = tuple(_flips(verdicts, pairs))
    better, worse = sum(f.b > f.a for f in flips), sum(f.b < f.a for f in flips)
    return Difference(one.row, one, two, interval, p, test, len(pairs), better, worse, flips)


def _values(verdicts: Sequence[Verdict], subsets: Mapping[str, str]) -> dict[str, float]:
    """Sample id -> mean of its draws' primary values, for samples with an answer in these subsets."""
    found: dict[str, list[float]] = {}
    for v in verdicts:
        value = v.values.get(VALUE)
        if not v.missing and isinstance(value, (bool, int, float)) and v.subset in subsets:
            found.setdefault(v.sample_id, []).append(float(value))
    return {sample: stats.mean(values) for sample, values in found.items()}


def _is_mean(benchmark: Benchmark, members: Mapping[str, str], values: Mapping[str, float], score: Score) -> bool:
    """Whether a row is the average of its samples' values; pass@10, or a metric over whole sets, is not."""
    parts = [[v for sample, v in values.items() if sample.rpartition("/")[0] == subset] for subset in members]
    if score.value is None or not parts or not all(parts):
        return False
    weights = weights_of(benchmark, members, {s: len(part) for s, part in zip(members, parts, strict=True)})
    return abs(100 * stats.weighted_mean([stats.mean(part) for part in parts], weights) - score.value) < SAME


def _interval(
    benchmark: Benchmark,
    members: Mapping[str, str],
    by_subset: Mapping[str, Sequence[tuple[float, float]]],
    one: Score,
    two: Score,
) -> tuple[tuple[float, float] | None, float | None, str]:
    """(95 % interval in points, p-value, test), all of the difference that is shown.

    Right-or-wrong metrics over one subset, or over pooled samples: McNemar's exact test and Bonett and Price's
    interval. Every other interval is normal: the subsets' paired standard errors, weighted as the row's average
    weights them; for right-or-wrong metrics not narrower than Bonett and Price's, which has a width also without
    a flip. An average of right-or-wrong subsets is tested by permutation, of that average: McNemar's test of the
    pooled samples may favour the other side.
    """
    pairs = [pair for part in by_subset.values() for pair in part]
    if not pairs or not all(by_subset.values()) or one.value is None or two.value is None:
        return None, None, ""
    binary = all(value in (0.0, 1.0) for pair in pairs for value in pair)
    only_a, only_b = sum(x > y for x, y in pairs), sum(y > x for x, y in pairs)
    low, high = stats.paired_proportions(only_a, only_b, len(pairs)) if binary else (0.0, 0.0)
    if binary and (len(members) == 1 or benchmark.average.name == "pooled"):
        return (100 * low, 100 * high), stats.mcnemar_exact(only_a, only_b), MCNEMAR
    weights = weights_of(benchmark, members, {s: len(part) for s, part in by_subset.items()})
    differences = [[y - x for x, y in part] for part in by_subset.values()]
    p = stats.paired_permutation_p(differences, weights) if binary else None
    error = stats.standard_error_of_mean(
        [stats.standard_error([100 * d for d in part]) for part in differences], weights
    )
    if error is None:
        return None, p, PERMUTATION if binary else ""
    diff, half = two.value - one.value, max(stats.Z95 * error, 100 * (high - low) / 2)
    if p is None:
        p = stats.normal_p(diff / error) if error else float(diff == 0.0)
    return (diff - half, diff + half), p, PERMUTATION if binary else NORMAL


def _flips(verdicts: Sequence[Sequence[Verdict]], pairs: Pairs) -> Iterator[Flip]:
    """The samples whose values differ, each with its first draw's answers."""
    first_a, first_b = ({v.sample_id: v for v in reversed(side)} for side in verdicts)
    for sample, (x, y) in pairs.items():
        if x != y:
            yield Flip(sample, x, y, first_a[sample].answer, first_b[sample].answer, first_a[sample].gold)


def _unlike_models(a: StoredRun, b: StoredRun, model_a: str, model_b: str) -> Iterator[str]:
    """What differs in the two models and the settings of the runs."""
    prints = a.plan.fingerprints[model_a], b.plan.fingerprints[model_b]
    if prints[0] != prints[1]:
        yield f"model fingerprint: {prints[0][:12]} / {prints[1][:12]}"
    specs = a.plan.models[model_a], b.plan.models[model_b]
    keys = _differing(*(s.resolved for s in specs))
    keys += ["kind"] if specs[0].kind != specs[1].kind and "kind" not in keys else []
    if keys:
        yield f"model settings: {', '.join(keys)}"
    facts = (
        ("evalkit version", lambda r: r.manifest.get("evalkit")),
        (
            "rows taken (--limit, --sample)",
            lambda r: (r.plan.cut.limit, r.plan.cut.sample, r.plan.cut.is_cut and r.plan.cut.seed),
        ),
        ("seed", lambda r: r.plan.seed),
        ("tokenizer of lengths", lambda r: r.plan.tokenizer),
    )
    yield from (f"{what}: {of(a)} / {of(b)}" for what, of in facts if of(a) != of(b))


def _unlike_benchmarks(a: StoredRun, b: StoredRun, matched: Sequence[tuple[Score, Score]]) -> Iterator[str]:
    """What differs in the benchmarks behind the rows, each said once."""
    for one, two in dict.fromkeys(((x.model, x.benchmark), (y.model, y.benchmark)) for x, y in matched):
        first, second = a.plan.benchmarks[one[1]], b.plan.benchmarks[two[1]]
        name = one[1] if one[1] == two[1] else f"{one[1]} / {two[1]}"
        if first.hash != second.hash:
            keys = ", ".join(_differing(first.resolved, second.resolved)) or "the exemplar file"
            yield f"{name}: version {first.hash[:6]} / {second.hash[:6]}, unlike in: {keys}"
        data = [r.plan.facts_of(Pair(*pair)).data_fingerprint for r, pair in ((a, one), (b, two))]
        if data[0] != data[1]:
            yield f"{name}: data fingerprint {data[0][:12]} / {data[1][:12]}: other rows, exemplars or golds"


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]


def as_markdown(found: Comparison, flips: int) -> str:
    """The comparison for eyes and for pull requests, with at most so many flipped samples a row."""
    from tabulate import tabulate

    rows = [[markdown_cell(d.row), _both(d.a.version, d.b.version), *_cells(d)] for d in found.differences]
    head = ["row", "version", "A", "B", "B - A", "95 % interval", "p", "test", "pairs", "better", "worse"]
    align = ["left"] * 2 + ["right"] * 5 + ["left"] + ["right"] * 3
    grid = tabulate(rows, head, tablefmt="github", colalign=align, disable_numparse=True)
    parts = [f"A: {found.a}  \nB: {found.b}", grid]
    if found.unlike:
        parts.append("Unlike:\n\n" + "\n".join(f"- {line}" for line in found.unlike))
    if found.only:
        parts.append("On one side only: " + ", ".join(found.only))
    parts += [_flip_list(d, flips) for d in found.differences if d.flips and flips]
    return "\n\n".join(parts) + "\n"


def _flip_list(d: Difference, most: int) -> str:
    """The first flipped samples of a row, and how many more there are."""
    lines = [
        f"- `{f.sample_id}` {f.a:g} → {f.b:g}: {_short(f.answer_a)} → {_short(f.answer_b)} (gold {_short(f.gold)})"
        for f in d.flips[:most]
    ]
    lines += [f"- and {len(d.flips) - most} more (`--flips N`, `--json`)"] if len(d.flips) > most else []
    return f"{d.row}, {len(d.flips)} flipped:\n\n" + "\n".join(lines)


def _cells(d: Difference) -> list[str]:
    values = ["-" if s.value is None else f"{s.value:.2f}" for s in (d.a, d.b)]
    diff = "-" if d.diff is None else f"{d.diff:+.2f}"
    interval = "-" if d.interval is None else f"[{d.interval[0]:+.2f}, {d.interval[1]:+.2f}]"
    p = "-" if d.p is None else f"{d.p:.3f}" if d.p >= 0.001 else f"{d.p:.1e}"
    n = str(d.n) if d.n == d.a.n_expected == d.b.n_expected else f"{d.n} of {_both(d.a.n_expected, d.b.n_expected)}"
    return [*values, diff, interval, p, d.test or "-", n, str(d.better), str(d.worse)]


def _both(a: object, b: object) -> str:
    return f"{a}" if a == b else f"{a} / {b}"


def _short(value: Any, most: int = 60) -> str:
    text = " ".join(str(value).split()).replace("`", "'")
    return f"`{text[:most]}…`" if len(text) > most else f"`{text}`"
