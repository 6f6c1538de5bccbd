"""The score table as plain values: one row a benchmark, group or subset, one column a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evalkit.core.records import Issue, Kind, Score
from evalkit.report.bindings import Binding

HEAD = ("dataset", "version", "metric", "mode")
ABSENT = "-"
ERRORS = "± one standard error, over the samples"


@dataclass(frozen=True)
class Line:
    """One row: what was measured, and a score for each model that has it."""

    dataset: str
    version: str
    metric: str
    mode: str
    scores: tuple[Score | None, ...]
    level: str
    stands_in: str = ""
    """The row whose scores these are, where it is shown in the place of a published one."""


@dataclass(frozen=True)
class Table:
    """A table and what must be said under it."""

    models: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    title: str = ""


def make_table(scores: Iterable[Score], models: Sequence[str], notes: Sequence[str] = (), title: str = "") -> Table:
    """Scores as lines, in the order they come; equal rows of several models share a line."""
    cells: dict[tuple[str, str, str, str, str], dict[str, Score]] = {}
    for s in scores:
        cells.setdefault((s.row, s.version, s.metric, s.mode, s.level), {})[s.model] = s
    lines = [
        Line(row, version, metric, mode, tuple(found.get(m) for m in models), level)
        for (row, version, metric, mode, level), found in cells.items()
    ]
    return Table(tuple(models), tuple(lines), tuple(notes), title)


def pick_rows(
    table: Table,
    rows: Sequence[str],
    stand_ins: Mapping[str, str] | None = None,
    bindings: Mapping[str, Binding] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> Table:
    """The named rows in that order; a row that was not run is shown as absent.

    A row has one line for each version that was run, with the version's primary metric. `stand_ins`
    maps a published row to the row that takes its place where it cannot be scored, marked in its cells.
    `bindings` says which of ours a published row is; of several versions those by the config that was
    published for the model's kind (`kinds`; a base model where it says nothing) are shown, else all, marked.
    """
    by_name: dict[str, dict[tuple[str, str], Line]] = {}
    for line in table.lines:
        by_name.setdefault(line.dataset, {}).setdefault((line.version, line.mode), line)
    empty = tuple(None for _ in table.models)
    lines: list[Line] = []
    for row in rows:
        own = (stand_ins or {}).get(row, "")
        bound = (bindings or {}).get(row)
        found = _bound(table, row, bound, kinds or {}) if bound else list(by_name.get(row, {}).values())
        found = found or [_standing_in(line, row) for line in by_name.get(own, {}).values()]
        lines += found or [Line(row, ABSENT, ABSENT, ABSENT, empty, "headline")]
    return Table(table.models, tuple(lines), table.notes, table.title)


def _bound(table: Table, row: str, binding: Binding, kinds: Mapping[str, Kind]) -> list[Line]:
    """The lines that a published row means, under its name."""
    lines: dict[tuple[str, str], Line] = {}
    for line in table.lines:
        if any(score and binding.fits(score) for score in line.scores):
            lines.setdefault((line.version, line.mode), line)
    kept: dict[str, list[Score]] = {}
    for number, model in enumerate(table.models):
        own = [score for line in lines.values() if (score := line.scores[number])]
        kept[model] = binding.preferred(own, kinds.get(model, "base"))
    found = []
    for line in lines.values():
        scores = []
        for model, score in zip(table.models, line.scores, strict=True):
            doubt = binding.doubt(score, kinds.get(model, "base")) if score else None
            marked = replace(score, issues=(*score.issues, doubt)) if score and doubt else score
            scores.append(marked if score in kept[model] else None)
        if any(scores):
            found.append(replace(line, dataset=row, scores=tuple(scores)))
    return found


def _standing_in(line: Line, row: str) -> Line:
    """A line in the place of another row; every score says so."""
    issue = Issue("stands_in", f"this is row {line.dataset} in the place of {row}")
    scores = tuple(s and replace(s, issues=(*s.issues, issue)) for s in line.scores)
    return replace(line, dataset=row, scores=scores, stands_in=line.dataset)


def without_subsets(table: Table) -> Table:
    """Headlines and groups; of a benchmark whose headline has no number also the subsets that have one."""
    gaps = {s.benchmark for x in table.lines if x.level == "headline" for s in x.scores if s and s.value is None}
    kept = [
        line
        for line in table.lines
        if line.level != "subset" or any(s and s.value is not None and s.benchmark in gaps for s in line.scores)
    ]
    return replace(table, lines=tuple(kept))


def cell(score: Score | None, decimals: int = 2) -> str:
    """A score as text with its standard error, where it has one; too few samples are said inside the cell."""
    if score is None:
        return ABSENT
    if score.value is None:
        return "failed" if score.flag else ABSENT
    text = f"{score.value:.{decimals}f}"
    if score.n < score.n_expected:
        text += f" ({score.n}/{score.n_expected})"
    text = text + "*" if score.flag else text
    return text if score.stderr is None else f"{text} ±{score.stderr:.{decimals}f}"


def foot(table: Table) -> list[str]:
    """What the marks in the cells mean, each said once; then the table's own notes."""
    said: dict[str, list[str]] = {}
    for line in table.lines:
        for model, score in zip(table.models, line.scores, strict=True):
            if score is not None and (score.flag or score.n < score.n_expected):
                few = f"{score.n} of {score.n_expected} samples answered" if score.n < score.n_expected else ""
                said.setdefault("; ".join(filter(None, [few, score.flag])), []).append(f"{model} {line.dataset}")
    errors = any(s is not None and s.value is not None and s.stderr is not None for x in table.lines for s in x.scores)
    lines = [ERRORS] if errors else []
    for what, rows in said.items():
        more = f" and {len(rows) - 3} more rows" if len(rows) > 3 else ""
        lines.append(f"* {', '.join(rows[:3])}{more}: {what}")
    return [*lines, *table.notes]
