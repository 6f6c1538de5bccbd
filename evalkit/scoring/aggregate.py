"""From the results of subsets to table rows: headline, groups, subsets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evalkit.core import stats
from evalkit.core.reasoning import UNFINISHED
from evalkit.core.records import Benchmark, Score
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.score import THINKING, SubsetResult

FAILURE = "failure:"
"""Prefix of a score's counts of programs by the class of their end."""
Level = Literal["headline", "group", "subset"]


def scores_of(
    model: str,
    benchmark: Benchmark,
    results: Mapping[str, SubsetResult],
    expected: Sequence[str],
    causes: Mapping[str, str],
) -> list[Score]:
    """Headline, groups and subsets of one benchmark as table rows, the primary metric first.

    `expected` are the subsets of the run; `causes` says why the jobs of a subset failed. A row over
    several subsets has no value when one of them has none: nothing is averaged over gaps.
    """
    primary = make_metric(benchmark.metric).name
    seen = {name: None for result in results.values() for name in (*result.results, *result.lacking)}
    rows: list[Score] = []
    for metric in [primary, *(name for name in seen if name != primary)]:
        for row, part in _parts(benchmark, expected):
            rows += _Maker(model, benchmark, row, results, part, causes, metric, metric == primary).rows()
    return rows


def headline_parts(benchmark: Benchmark, expected: Sequence[str]) -> dict[str, dict[str, str]]:
    """Headline row -> the subsets that it is over, each with its member; without an average each has its own."""
    parts = dict(_parts(benchmark, expected))
    if benchmark.average.name != "none":
        return parts
    return {name: one for row, part in parts.items() for name, one in _apart(row, part).items()}


def _apart(row: str, part: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """A row of its own for each subset."""
    alone = list(part) == [row]
    return {row if alone else f"{row}-{member}": {subset: member} for subset, member in part.items()}


def weights_of(benchmark: Benchmark, members: Mapping[str, str], counts: Mapping[str, int]) -> list[float]:
    """The weight of each subset in an average.

    `members`: subset -> member; `counts`: subset -> samples. Equal weights, the members' variable that
    `average: {weighted: NAME}` names, or (`pooled`) the samples.
    """
    if benchmark.average.name == "pooled":
        return [float(counts[subset]) for subset in members]
    if benchmark.average.name != "weighted":
        return [1.0] * len(members)
    key = str(next(iter(benchmark.average.args.values())))
    by_name = {m.name: float(m.variables[key]) for m in benchmark.members}
    return [by_name[member] for member in members.values()]


def _parts(benchmark: Benchmark, expected: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """(row name, subset -> member) of the parts that are averaged on their own: one for each split that is named."""
    split = benchmark.data.split
    if isinstance(split, str):
        return [(benchmark.row, {subset: subset for subset in expected})]
    names = [prefix.removesuffix("-") for prefix in split]
    parts = [(name, {f"{name}-{m.name}": m.name for m in benchmark.members}) for name in names]
    kept = [(name, {s: m for s, m in part.items() if s in expected}) for name, part in parts]
    return [(name, part) for name, part in kept if part]


@dataclass(frozen=True)
class _Maker:
    """Makes the rows of one benchmark and one metric."""

    model: str
    benchmark: Benchmark
    row: str
    results: Mapping[str, SubsetResult]
    expected: Mapping[str, str]
    """Subset -> member."""
    causes: Mapping[str, str]
    metric: str
    is_primary: bool

    def rows(self) -> list[Score]:
        """All rows, headline first; without an average every subset has a headline of its own."""
        name = self.row
        top: Level = "headline" if self.is_primary else "group"
        if self.benchmark.average.name == "none" and list(self.expected) != [name]:
            return [self._over(row, list(one), 1, top) for row, one in _apart(name, self.expected).items()]
        made = [self._over(name, list(self.expected), self._full(), top)]
        for group in self.benchmark.groups:
            subsets = self._of(group.members)
            if subsets:
                made.append(self._over(f"{name}-{group.name}", subsets, len(group.members), "group"))
        if len(self.expected) > 1:
            made += [self._over(f"{name}-{m}", [subset], 1, "subset") for subset, m in self.expected.items()]
        return made

    def _of(self, members: Sequence[str]) -> list[str]:
        """The run's subsets of these members."""
        return [subset for subset, member in self.expected.items() if member in members]

    def _full(self) -> int:
        """How many subsets the benchmark has, chosen or not."""
        listed = self.benchmark.resolved.get("subsets")
        in_groups = {name for g in self.benchmark.groups for name in g.members}
        grid = self.benchmark.resolved.get("grid")
        cells = math.prod(len(values) for values in grid["axes"].values()) if grid else 0
        return max(len(listed) if isinstance(listed, list) else len(in_groups), cells, len(self.expected))

    def _over(self, row: str, subsets: Sequence[str], full: int, level: Level) -> Score:
        found = [self.results[s] for s in subsets if s in self.results]
        values = [r.results[self.metric] for r in found if self.metric in r.results]
        averaged = len(values) == len(subsets)
        counts = {s: self.results[s].n for s in subsets if s in self.results}
        weights = weights_of(self.benchmark, {s: self.expected[s] for s in counts}, counts)
        left_out = full - len(subsets)
        return Score(
            model=self.model,
            benchmark=self.benchmark.name,
            version=self.benchmark.hash[:6],
            mode=self.benchmark.mode,
            row=row,
            metric=self.metric,
            value=stats.weighted_mean(values, weights) if averaged else None,
            n=sum(r.n for r in found),
            n_expected=sum(r.n_expected for r in found),
            stderr=self._stderr(found, weights) if averaged and self.is_primary else None,
            flag=self._flag(subsets, full),
            level=level,
            extra=_counts(found) | ({"left_out": float(left_out)} if left_out else {}),
        )

    def _stderr(self, found: Sequence[SubsetResult], weights: Sequence[float]) -> float | None:
        return stats.standard_error_of_mean([r.stderr for r in found], weights)

    def _flag(self, subsets: Sequence[str], full: int) -> str:
        """What must be said beside the number; empty when there is nothing."""
        problem = next((c for c in map(self._cause, subsets) if c), "")
        missing = [s for s in subsets if s not in self.results or self.metric not in self.results[s].results]
        short = [s for s in missing if s in self.results and self.metric in self.results[s].lacking]
        if not problem and short:
            problem = f"{_some(short)}: {self.metric} needs more answered draws of every sample"
        if not problem and missing:
            problem = f"no answers for {_some(missing)}"
        truncated = sum(self.results[s].truncated for s in subsets if s in self.results)
        notes = [problem] if problem else []
        notes += [f"{len(subsets)} of {full} subsets"] if len(subsets) < full else []
        notes += [f"{truncated} prompts cut on the left"] if truncated else []
        found = [self.results[s] for s in subsets if s in self.results]
        faults = [r.first_fault for r in found if r.faults]
        notes += [f"{sum(r.faults for r in found)} answers cannot be judged, the first {faults[0]}"] if faults else []
        without = sum(r.without_gold for r in found)
        notes += [f"{without} rows have no gold and are left out"] if without else []
        unfinished = sum(self.results[s].unfinished for s in subsets if s in self.results)
        notes += [f"{unfinished} replies end inside their thinking"] if unfinished else []
        return "; ".join(notes)

    def _cause(self, subset: str) -> str:
        """Why this subset has no number, or one over too few samples."""
        result = self.results.get(subset)
        return self.causes.get(subset, "") or (result.problem if result else "")


def _counts(results: Sequence[SubsetResult]) -> dict[str, float]:
    """Numbers of samples that need a remark; those that are 0 are left out."""
    counts = {
        "fragile": sum(r.fragile for r in results),
        THINKING: sum(r.thinking for r in results),
        UNFINISHED: sum(r.unfinished for r in results),
    }
    for result in results:
        for name, count in result.failures.items():
            counts[FAILURE + name] = counts.get(FAILURE + name, 0) + count
    return {name: float(count) for name, count in counts.items() if count}


def _some(names: Iterable[str], limit: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + ("…" if len(listed) > limit else "")
