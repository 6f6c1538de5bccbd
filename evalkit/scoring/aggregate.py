"""From the results of subsets to table rows: headline, groups, subsets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from evalkit.configs.benchmark import count_cells
from evalkit.core import stats
from evalkit.core.calls import make_contrast
from evalkit.core.records import MIXED, Benchmark, Counts, Issue, Score, Verdict
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.score import SubsetResult

Level = Literal["headline", "group", "subset"]


def blank_score(model: str, benchmark: Benchmark, row: str, metric: str, level: Level) -> Score:
    """A table row that says what it is of, and has no number yet."""
    version = benchmark.hash[:6]
    return Score(
        model=model, benchmark=benchmark.name, version=version, mode=benchmark.mode, row=row, metric=metric,
        value=None, n=0, n_expected=0, level=level,
    )  # fmt: skip


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
    maker = _Rows(model, benchmark, results, causes, primary)
    rows: list[Score] = []
    for metric in [primary, *(name for name in seen if name != primary)]:
        for row, part in _parts(benchmark, expected):
            rows += maker.of(metric, row, part)
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
    if benchmark.average.name == "groups":
        return [_group_weight(benchmark, member) for member in members.values()]
    if benchmark.average.name != "weighted":
        return [1.0] * len(members)
    key = str(next(iter(benchmark.average.args.values())))
    by_name = {m.name: float(m.variables[key]) for m in benchmark.members}
    return [by_name[member] for member in members.values()]


def _group_weight(benchmark: Benchmark, member: str) -> float:
    """A member's share of the mean of group means, where `average: {groups: [NAME, …]}` names the groups."""
    named = {str(name) for names in benchmark.average.args.values() for name in names}
    groups = [group.members for group in benchmark.groups if group.name in named]
    return sum(1.0 / (len(groups) * len(members)) for members in groups if member in members)


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
class _Rows:
    """Makes the rows of one benchmark and model."""

    model: str
    benchmark: Benchmark
    results: Mapping[str, SubsetResult]
    causes: Mapping[str, str]
    primary: str
    """The metric that the config names; the others' rows come below it."""

    def of(self, metric: str, row: str, part: Mapping[str, str]) -> list[Score]:
        """All rows of a part (subset -> member), headline first; without an average every subset has a headline.

        A result over some of the samples has rows where there are such samples.
        """
        made = self._all(metric, row, part)
        return [score for score in made if score.n or score.value is not None] if self._is_partial(metric) else made

    def _is_partial(self, metric: str) -> bool:
        """Whether a result is over some of the samples only."""
        return any(metric in result.parts for result in self.results.values())

    def _all(self, metric: str, row: str, part: Mapping[str, str]) -> list[Score]:
        top: Level = "headline" if metric == self.primary else "group"
        if self.benchmark.average.name == "none" and list(part) != [row]:
            return [self._over(metric, name, one, 1, top) for name, one in _apart(row, part).items()]
        made = [self._over(metric, row, part, self._full(part), top)]
        for group in self.benchmark.groups:
            chosen = {subset: member for subset, member in part.items() if member in group.members}
            if chosen:
                made.append(self._over(metric, f"{row}-{group.name}", chosen, len(group.members), "group"))
        if len(part) > 1:
            made += [self._over(metric, f"{row}-{m}", {subset: m}, 1, "subset") for subset, m in part.items()]
        return made

    def _full(self, part: Mapping[str, str]) -> int:
        """How many subsets the benchmark has, chosen or not."""
        listed = self.benchmark.subsets
        in_groups = {name for g in self.benchmark.groups for name in g.members}
        cells = count_cells(self.benchmark.resolved) or 0
        return max(len(listed) if isinstance(listed, tuple) else len(in_groups), cells, len(part))

    def _over(self, metric: str, row: str, part: Mapping[str, str], full: int, level: Level) -> Score:
        results = [self.results[s] for s in part if s in self.results]
        if self._is_partial(metric):
            return self._pooled(metric, row, part, full, level)
        values = [r.results[metric] for r in results if metric in r.results]
        averaged = len(values) == len(part)
        members = {r.subset: part[r.subset] for r in results}
        weights = weights_of(self.benchmark, members, {r.subset: r.n for r in results})
        of_groups = [f"{self.benchmark.row}-{group.name}" for group in self.benchmark.groups]
        if self.benchmark.average.name == "groups" and row in of_groups:  # inside of a group all count the same
            weights = [1.0] * len(members)
        errors = [r.stderr if metric == self.primary else r.stderrs.get(metric) for r in results]
        return replace(
            blank_score(self.model, self.benchmark, row, metric, level),
            mode=self._mode(part),
            value=stats.weighted_mean(values, weights) if averaged else None,
            n=sum(r.n for r in results),
            n_expected=sum(r.n_expected for r in results),
            stderr=stats.standard_error_of_mean(errors, weights) if averaged else None,
            issues=self._issues(metric, list(part), full),
            n_samples=sum(r.n_samples for r in results),
            counts=_total([r.counts for r in results], full - len(part)),
        )

    def _issues(self, metric: str, subsets: Sequence[str], full: int) -> tuple[Issue, ...]:
        """What must be known beside the number."""
        results = [self.results[s] for s in subsets if s in self.results]
        issues = [problem] if (problem := self._problem(metric, subsets)) else []
        if len(subsets) < full:
            issues.append(Issue("subsets_left_out", f"{len(subsets)} of {full} subsets"))
        if truncated := sum(r.truncated for r in results):
            issues.append(Issue("left_truncated", f"{truncated} prompts left-truncated"))
        if faulty := [r for r in results if r.faults]:
            text = f"{sum(r.faults for r in faulty)} answers cannot be judged, the first {faulty[0].first_fault}"
            issues.append(Issue("unjudged", text))
        if unread := sum(r.unread for r in results):
            text = f"the judges' verdicts on {unread} of {sum(r.n for r in results)} answers cannot be read: left out"
            issues.append(Issue("unread_verdicts", text))
        if without := sum(r.without_gold for r in results):
            issues.append(Issue("no_gold", f"{without} rows have no gold and are left out"))
        if unfinished := sum(r.counts.unfinished for r in results):
            cut = "length limit or stop string" if any(r.undeclared for r in results) else "length limit"
            issues.append(Issue("ended_in_reasoning", f"{unfinished} replies ended during reasoning ({cut})"))
        if traces := sum(r.undeclared for r in results):
            text = f"{traces} replies have a reasoning trace, removed before extraction (--reasoning declares it)"
            issues.append(Issue("trace_removed", text))
        if shown := sum(r.own_exemplars for r in results):
            issues.append(Issue("own_exemplars", f"{shown} samples stand among their own exemplars"))
        if damaged := sum(r.damaged for r in results):
            text = f"{damaged} lines of the store are damaged and do not count: the same command asks again"
            issues.append(Issue("damaged_lines", text))
        if any(r.data_changed for r in results):
            text = "the data changed since the run: scored by the rows as they are now"
            issues.append(Issue("data_changed", text))
        return tuple(issues)

    def _mode(self, part: Mapping[str, str]) -> str:
        """The mode of these subsets; `mixed` where they have several."""
        members = set(part.values())
        modes = {self.benchmark.part(m.variables).mode for m in self.benchmark.members if m.name in members}
        return modes.pop() if len(modes) == 1 else MIXED

    def _pooled(self, metric: str, row: str, part: Mapping[str, str], full: int, level: Level) -> Score:
        """A result over some of the samples: weighted by how many there are in each subset.

        What kind a sample without an answer is of is not known, so each counts as expected.
        """
        results = [self.results[s] for s in part if s in self.results]
        having = [r for r in results if metric in r.parts]
        counts = [r.parts[metric] for r in having]
        broken = [s for s in part if self.causes.get(s) or s not in self.results or self.results[s].problem]
        issues = [Issue("subsets_left_out", f"{len(part)} of {full} subsets")] if len(part) < full else []
        return replace(
            blank_score(self.model, self.benchmark, row, metric, level),
            mode=self._mode(part),
            value=stats.weighted_mean([r.results[metric] for r in having], counts) if having and not broken else None,
            n=sum(counts),
            n_expected=sum(counts) + sum(r.n_expected - r.n for r in results),
            issues=tuple(issues),
            counts=Counts(left_out=full - len(part)),
        )

    def _problem(self, metric: str, subsets: Sequence[str]) -> Issue | None:
        """Why there is no number, or one over too few samples: the first cause that is known."""
        for subset in subsets:
            if cause := self.causes.get(subset, ""):
                return Issue("failed", cause)
            if subset in self.results and (problem := self.results[subset].problem):
                return problem
        missing = [s for s in subsets if s not in self.results or metric not in self.results[s].results]
        short = [s for s in missing if s in self.results and metric in self.results[s].lacking]
        if short:
            return Issue("too_few_draws", f"{_some(short)}: {metric} needs more answered draws of every sample")
        if silent := [s for s in missing if s in self.results and self.results[s].unread]:
            return Issue("unjudged", f"{_some(silent)}: none of the judges' verdicts can be read")
        return Issue("unanswered", f"no answers for {_some(missing)}") if missing else None


def _total(counts: Sequence[Counts], left_out: int) -> Counts:
    programs: Counter[str] = Counter()
    for one in counts:
        programs.update(one.programs)
    return Counts(
        fragile=sum(c.fragile for c in counts),
        reasoning=sum(c.reasoning for c in counts),
        unfinished=sum(c.unfinished for c in counts),
        left_out=left_out,
        programs=dict(programs),
    )


def contrast_scores(model: str, benchmark: Benchmark, verdicts: Mapping[str, Sequence[Verdict]]) -> list[Score]:
    """Table rows of the benchmark's comparison of its subsets; `verdicts`: subset -> those on its texts."""
    if benchmark.contrast is None:
        return []
    rows = make_contrast(benchmark.contrast).of(verdicts)
    blanks = [blank_score(model, benchmark, f"{benchmark.row}-{row.name}", row.metric, "group") for row in rows]
    return [
        replace(blank, value=row.value, n=row.n, n_expected=row.n, p_value=row.p)
        for blank, row in zip(blanks, rows, strict=True)
    ]


def _some(names: Iterable[str], limit: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + ("…" if len(listed) > limit else "")
