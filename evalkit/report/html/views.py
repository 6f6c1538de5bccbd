"""What the pages show, as plain values ready for the templates."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from evalkit.core.records import Score
from evalkit.report.heatmap import Grid, length_label
from evalkit.report.html import charts
from evalkit.report.html.data import (
    ABSENT,
    AT_LIMIT,
    FLAGGED,
    MISSING,
    TRUNCATED,
    UNFINISHED,
    UNPARSED,
    Cells,
    Column,
    SampleFiles,
    Usage,
)
from evalkit.report.reference import as_number, column_of
from evalkit.report.summary import Summarizer, read_reference
from evalkit.report.table import make_table
from evalkit.report.tables import printable
from evalkit.results.scored import StoredRun
from evalkit.sandbox.records import FAILURES
from evalkit.scoring.errors import interval_of

MOST_ANSWERS = 12
"""Different answers up to which their distribution is shown."""


@dataclass(frozen=True)
class Cell:
    """A score as a page shows it."""

    value: str
    """Empty: no number."""
    margin: str
    """Half of the 95 % interval, `±2.6`; empty without one."""
    interval: tuple[float, float] | None
    n: str
    """`97 of 100`, or `100`."""
    is_partial: bool
    issues: tuple[str, ...]
    reference: str = ""
    difference: str = ""


@dataclass(frozen=True)
class ScoreLine:
    """A row of the score table."""

    benchmark: str
    row: str
    name: str
    """The row without the benchmark's name in front, for groups and subsets."""
    level: str
    metric: str
    mode: str
    version: str
    cells: tuple[Cell | None, ...]
    plot: Markup
    folds: int = 0
    """Rows below a headline that fold."""


def score_lines(runs: Sequence[StoredRun], columns: Sequence[Column], summarizer: Summarizer | None) -> list[ScoreLine]:
    """The rows of all runs, those of a benchmark together, its headline first."""
    labels = {(c.run, c.model): c.label for c in columns}
    scores = [replace(s, model=labels[run.store.name, s.model]) for run in runs for s in run.scores]
    by_benchmark: dict[str, list[Score]] = {}
    for score in scores:
        by_benchmark.setdefault(score.benchmark, []).append(score)
    published, own = _published(columns, summarizer)
    lines: list[ScoreLine] = []
    for name, found in by_benchmark.items():
        table = make_table(found, [c.label for c in columns])
        made = [
            _line(name, line.dataset, line.level, line.metric, line.mode, line.version, line.scores, published, own)
            for line in table.lines
        ]
        heads = [line for line in made if line.level == "headline"] or made[:1]
        rest = [line for line in made if line not in heads]
        prefix = f"{heads[0].row}-"
        rest = [replace(line, name=line.row.removeprefix(prefix) or line.row) for line in rest]
        lines += [*heads[:-1], replace(heads[-1], folds=len(rest)), *rest]
    return lines


def _published(
    columns: Sequence[Column], summarizer: Summarizer | None
) -> tuple[Mapping[str, Mapping[str, str]], list[str]]:
    """(row -> reference column -> value, the reference column of each of ours)."""
    if summarizer is None or summarizer.reference is None:
        return {}, [""] * len(columns)
    names, rows = read_reference(summarizer.reference)
    return rows, [summarizer.column or column_of(c.model, names) for c in columns]


def _line(
    benchmark: str,
    row: str,
    level: str,
    metric: str,
    mode: str,
    version: str,
    scores: Sequence[Score | None],
    published: Mapping[str, Mapping[str, str]],
    own: Sequence[str],
) -> ScoreLine:
    references = [published.get(row, {}).get(column, "") for column in own]
    cells = tuple(cell_of(s, r) if s else None for s, r in zip(scores, references, strict=True))
    dots = [
        charts.Dot(number, s.value, *(interval_of(s) or (s.value, s.value)), title=f"{s.model} {s.value:.2f}")
        for number, s in enumerate(scores)
        if s and s.value is not None and 0 <= s.value <= 100
    ]
    known = [as_number(r) for r in references if as_number(r) is not None]
    plot = charts.dot_plot(dots, known[0] if len(set(known)) == 1 else None)
    return ScoreLine(benchmark, row, row, level, metric, mode, version, cells, plot)


def cell_of(score: Score, reference: str = "") -> Cell:
    """A score as a page shows it."""
    interval = interval_of(score)
    published = as_number(reference)
    issues = tuple(printable(issue.text) for issue in score.issues)
    return Cell(
        value="" if score.value is None else f"{score.value:.2f}",
        margin=f"±{(interval[1] - interval[0]) / 2:.1f}" if interval else "",
        interval=interval,
        n=f"{score.n} of {score.n_expected}" if score.n < score.n_expected else f"{score.n}",
        is_partial=score.n < score.n_expected,
        issues=issues,
        reference=reference,
        difference=f"{score.value - published:+.2f}" if published is not None and score.value is not None else "",
    )


@dataclass(frozen=True)
class Heat:
    """A needle grid as a table."""

    title: str
    overall: str
    note: str
    lengths: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, int] | None, ...]], ...]
    """(depth, cells): each the score and its class 0 to 10; None where there is none."""


def heat(grid: Grid) -> Heat:
    """The table of a grid."""

    def cell(length: float, depth: float) -> tuple[str, int] | None:
        value = grid.cells.get((length, depth))
        return None if value is None else (f"{value:.0f}", round(max(0.0, min(100.0, value)) / 10))

    rows = tuple((f"{d:g} %", tuple(cell(length, d) for length in grid.lengths)) for d in grid.depths)
    lengths = tuple(length_label(length, grid.lengths) for length in grid.lengths)
    return Heat(f"{grid.model} · {grid.row}", f"{grid.overall:.2f}", grid.note, lengths, rows)


@dataclass(frozen=True)
class Statistics:
    """What was counted over a column's samples."""

    column: int
    total: int
    rows: tuple[tuple[str, int, str], ...]
    """(what, how many, the filter of the samples page that shows them)."""


def statistics(files: SampleFiles) -> list[Statistics]:
    """The counts of each column that has samples."""
    found = []
    for number, cells in enumerate(files.cells):
        present = [i for i, flags in enumerate(cells.flags) if not flags & ABSENT]
        if not present:
            continue
        right = sum(1 for i in present if (cells.value[i] or 0.0) >= 1.0)
        judged = sum(1 for i in present if cells.value[i] is not None)
        counted = [
            ("right", right, "right"),
            ("wrong, or right in part", judged - right, "wrong"),
            ("without a verdict", _flagged(cells, MISSING), "missing"),
            ("nothing extracted", _flagged(cells, UNPARSED), "unparsed"),
            ("cut at the length limit", _flagged(cells, AT_LIMIT), "limit"),
            ("prompt cut at the left", _flagged(cells, TRUNCATED), "truncated"),
            ("ended in its reasoning", _flagged(cells, UNFINISHED), "unfinished"),
            ("flagged", _flagged(cells, FLAGGED), "flagged"),
        ]
        rows = tuple(row for row in counted if row[1] or row[2] in ("right", "wrong"))
        found.append(Statistics(number, len(present), rows))
    return found


def _flagged(cells: Cells, flag: int) -> int:
    return sum(1 for flags in cells.flags if flags & flag and not flags & ABSENT)


def charts_of(files: SampleFiles, programs: Sequence[Mapping[str, int]]) -> list[Markup]:
    """The charts that a benchmark's samples allow; `programs`: how each column's programs ended."""
    present = [n for n, cells in enumerate(files.cells) if any(not flags & ABSENT for flags in cells.flags)]
    made = [_programs(programs), _answers(files, present), _margins(files, present), _lengths(files, present)]
    return [chart for chart in made if chart]


def _programs(programs: Sequence[Mapping[str, int]]) -> Markup:
    names = [name for name in FAILURES if any(name in ends for ends in programs)]
    if not names:
        return Markup("")
    series = [charts.Series(n, [ends.get(name, 0) for name in names]) for n, ends in enumerate(programs) if ends]
    labels = [name.replace("_", " ") for name in names]
    return charts.bars(labels, series, "How programs ended", "class", "number of programs")


def _answers(files: SampleFiles, present: Sequence[int]) -> Markup:
    """How often each answer was given, beside the golds: a model may prefer a position."""
    golds = Counter(files.gold)
    given = [
        Counter(a for a, flags in zip(cells.answer, cells.flags, strict=True) if not flags & (ABSENT | MISSING))
        for cells in (files.cells[n] for n in present)
    ]
    if not golds or len(golds) > MOST_ANSWERS or "" in golds:
        return Markup("")
    names = sorted(golds)
    others = [sum(n for a, n in counter.items() if a not in golds) for counter in given]
    series = [charts.Series(n, [counter[a] for a in names]) for n, counter in zip(present, given, strict=True)]
    labels = names
    if any(others):
        labels = [*names, "other"]
        series = [replace(s, values=[*s.values, other]) for s, other in zip(series, others, strict=True)]
    gold = charts.Series(7, [golds[a] for a in names])
    return charts.bars(labels, [*series, gold], "Answers given", "answer", "number of samples; grey: golds")


def _margins(files: SampleFiles, present: Sequence[int]) -> Markup:
    """Whether larger margins go with right answers."""
    columns = {}
    for n in present:
        cells = files.cells[n]
        pairs = [(m, v) for m, v in zip(cells.margin, cells.value, strict=True) if m is not None and v is not None]
        if len(pairs) >= 20:
            columns[n] = charts.by_margin(pairs)
    if not columns:
        return Markup("")
    count = max(map(len, columns.values()))
    labels = [
        " / ".join(dict.fromkeys(f"{bins[i][0]:.2g}" for bins in columns.values() if i < len(bins)))
        for i in range(count)
    ]
    series = [charts.Series(n, [value for _, value, _ in bins]) for n, bins in columns.items()]
    title = "Reliability of margins"
    return charts.points(labels, series, title, "mean margin of a tenth of the samples, nats", "right, percent")


def _lengths(files: SampleFiles, present: Sequence[int]) -> Markup:
    columns = {
        n: [x for x, f in zip(files.cells[n].length, files.cells[n].flags, strict=True) if not f & (ABSENT | MISSING)]
        for n in present
    }
    if not any(any(lengths) for lengths in columns.values()):
        return Markup("")
    labels, counts = charts.length_bins(list(columns.values()))
    series = [charts.Series(n, count) for n, count in zip(columns, counts, strict=True)]
    return charts.bars(labels, series, "Lengths of outputs", "tokens", "number of samples")


@dataclass(frozen=True)
class ColumnFacts:
    """What stands beside a column's name."""

    column: Column
    kind: str
    engine: str
    path: str
    status: str
    """Empty when the run is complete."""


def column_facts(run: StoredRun, column: Column) -> ColumnFacts:
    """The facts of a column."""
    spec = run.plan.models[column.model]
    gaps = sum(1 for s in run.scores if s.model == column.model and s.level == "headline" and s.has_gap)
    status = f"{gaps} of its benchmarks incomplete" if gaps else ""
    return ColumnFacts(column, spec.kind, spec.engine, printable(spec.path), status)


@dataclass(frozen=True)
class RunFacts:
    """A run, for its page."""

    command: str
    facts: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    models: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...]
    """(name, facts, config)."""
    benchmarks: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...]
    failures: tuple[str, ...]


def run_facts(run: StoredRun) -> RunFacts:
    """What the manifest tells."""
    manifest, environment = run.manifest, run.manifest.get("environment", {})
    words = [str(word) for word in manifest.get("command", ())]
    cut = run.plan.cut
    facts = [
        ("folder", run.store.folder),
        ("created", manifest.get("created")),
        ("status", manifest.get("status")),
        ("evalkit", manifest.get("evalkit")),
        ("commit", f"{environment.get('git_commit', '')}{' (changed)' if environment.get('git_changed') else ''}"),
        ("plan", run.plan.hash),
        ("seed", run.plan.seed),
        ("rows", f"limit {cut.limit}, sample {cut.sample}" if cut.is_cut else "all"),
        ("data root", run.plan.data_root),
        ("python", environment.get("python")),
        ("system", environment.get("platform")),
        ("cores", environment.get("cores")),
        ("driver", environment.get("driver")),
    ]
    failures = [
        f"{f['model']} {f['benchmark']} {f['subset']} [{f['start']}:{f['stop']}]: {f['cause']}"
        for f in manifest.get("failures", ())
    ]
    return RunFacts(
        command=printable(_command_line(words)),
        facts=_known(facts),
        packages=_known(list(environment.get("packages", {}).items())),
        models=tuple(_model_facts(run, name) for name in run.plan.models),
        benchmarks=tuple(_benchmark_facts(run, name) for name in run.plan.benchmarks),
        failures=tuple(map(printable, failures)),
    )


def _command_line(words: Sequence[str]) -> str:
    """The line that does the run again."""
    if not words:
        return ""
    program = "python run.py" if words[0].endswith("run.py") else "evalkit"
    return " ".join([program, *map(shlex.quote, words[1:])])


def _known(facts: Sequence[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, printable(str(value))) for name, value in facts if value not in (None, "", [], {}))


def _model_facts(run: StoredRun, name: str) -> tuple[str, tuple[tuple[str, str], ...], str]:
    entry, engine = run.manifest["models"][name], run.manifest.get("engines", {}).get(name, {})
    told = {k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in engine.items()}
    facts = [("fingerprint", entry["fingerprint"]), ("config", entry["source"]), *told.items()]
    return name, _known(facts), json.dumps(entry["resolved"], ensure_ascii=False, indent=2)


def _benchmark_facts(run: StoredRun, name: str) -> tuple[str, tuple[tuple[str, str], ...], str]:
    entry = run.manifest["benchmarks"][name]
    data = {p.model: run.plan.facts_of(p).data_fingerprint for p in run.plan.pairs if p.benchmark == name}
    facts = [
        ("hash", entry["hash"]),
        ("data", ", ".join(dict.fromkeys(data.values()))),
        ("config", entry["source"]),
        ("subsets", ", ".join(entry["subsets"])),
    ]
    return name, _known(facts), json.dumps(entry["resolved"], ensure_ascii=False, indent=2)


def usage_of(
    run: StoredRun, columns: Sequence[Column], sampled: Mapping[str, SampleFiles]
) -> list[tuple[str, str, Usage]]:
    """(model, benchmark, what it took), of the benchmarks whose samples are in the report."""
    return [
        (column.label, name, files.usage[number])
        for number, column in enumerate(columns)
        if column.run == run.store.name
        for name, files in sampled.items()
        if files.usage[number].seconds or files.usage[number].tokens
    ]
