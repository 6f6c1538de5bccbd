"""Writes the HTML report of one or several runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from evalkit.core.records import Benchmark
from evalkit.core.version import __version__
from evalkit.plan.plan import Pair
from evalkit.report.compare import Comparison, compare
from evalkit.report.heatmap import grids_of
from evalkit.report.html import charts, views
from evalkit.report.html.data import Column, SampleFiles
from evalkit.report.notes import score_notes
from evalkit.report.samples import samples_of
from evalkit.report.summary import Summarizer
from evalkit.report.tables import printable
from evalkit.results.scored import StoredRun
from evalkit.results.store import disk_errors, safe, write_file

FILES = ("report.css", "report.js", "samples.js", "text.js")
"""What every report has in its folder `static`."""
MOST_COMPARED = 4
"""Columns that are compared with the first, sample by sample."""


@dataclass(frozen=True)
class Report:
    """What a report is about."""

    runs: tuple[StoredRun, ...]
    columns: tuple[Column, ...]
    summarizer: Summarizer | None = None
    has_samples: bool = True
    """Whether it has the pages of samples, and the statistics that need them."""

    @property
    def benchmarks(self) -> dict[str, Benchmark]:
        """All benchmarks of the runs, by name."""
        return {name: benchmark for run in reversed(self.runs) for name, benchmark in run.plan.benchmarks.items()}

    def run_of(self, column: Column) -> StoredRun:
        """The run of a column."""
        return next(run for run in self.runs if run.store.name == column.run)


def columns_of(runs: Sequence[StoredRun]) -> tuple[Column, ...]:
    """A column for each model of each run, named after the model, and after the run where that is not enough."""
    models = [(run.store.name, model) for run in runs for model in run.plan.models]
    names = [model for _, model in models]
    return tuple(
        Column(printable(model if names.count(model) == 1 else f"{model} · {run}"), run, model) for run, model in models
    )


def count_judged(runs: Sequence[StoredRun]) -> int:
    """How many answers the sample pages of these runs would have."""
    return sum(s.n_expected for run in runs for s in run.scores if s.level == "headline")


def write_pages(
    runs: Sequence[StoredRun], folder: Path, summarizer: Summarizer | None = None, *, samples: bool = True
) -> Path:
    """Write the report into `folder`, in the place of an older one; returns the page to open.

    `samples`: also a page of samples for each benchmark, with data files of about the size of the replies.
    """
    report = Report(tuple(runs), columns_of(runs), summarizer, samples)
    with disk_errors(folder):
        for part in ("data", "static"):
            shutil.rmtree(folder / part, ignore_errors=True)
        for old in folder.glob("*.html"):
            old.unlink()
    static = resources.files("evalkit.report.html") / "static"
    for name in FILES:
        write_file(folder / "static" / name, (static / name).read_bytes())
    sampled = {name: files for name in report.benchmarks if samples and (files := _write_samples(report, name, folder))}
    comparisons = _comparisons(report)
    for page, content in _pages(report, sampled, comparisons):
        write_file(folder / page, content)
    return folder / "index.html"


def _write_samples(report: Report, benchmark: str, folder: Path) -> SampleFiles | None:
    """The data files of a benchmark; None where no sample was judged."""
    files = SampleFiles(folder / "data" / safe(benchmark), benchmark, report.columns)
    for number, column in enumerate(report.columns):
        run, pair = report.run_of(column), Pair(column.model, benchmark)
        if pair in run.plan.pairs:
            facts, model = run.plan.facts_of(pair), run.plan.models[column.model]
            asked = (run.plan.benchmarks[benchmark].hash, model.kind, facts.data_fingerprint)
            files.add(number, asked, samples_of(run.store, run.plan, pair))
    if not files.sample:
        return None
    files.close()
    return files


def _comparisons(report: Report) -> list[tuple[int, Comparison]]:
    """(number of the column, its differences from the first)."""
    if len(report.columns) > MOST_COMPARED:
        return []
    first, *others = report.columns
    found = []
    for number, other in enumerate(others, 1):
        a, b = report.run_of(first), report.run_of(other)
        rows = [{s.row for s in run.scores if s.model == c.model} for run, c in ((a, first), (b, other))]
        if rows[0] & rows[1]:
            found += [(number, c) for c in compare(a, b, (first.model, other.model))]
    return found


def _pages(
    report: Report, sampled: Mapping[str, SampleFiles], comparisons: Sequence[tuple[int, Comparison]]
) -> Iterator[tuple[str, str]]:
    """(file name, HTML) of every page."""
    lines = views.score_lines(report.runs, report.columns, report.summarizer)
    title = " and ".join(run.store.name for run in report.runs)
    shared: dict[str, Any] = {
        "title": title,
        "columns": report.columns,
        "runs": report.runs,
        "version": __version__,
        "benchmarks": list(report.benchmarks),
        "sampled": set(sampled),
    }
    yield (
        "index.html",
        _render(
            "overview.html",
            **shared,
            lines=lines,
            comparisons=comparisons,
            facts=[views.column_facts(report.run_of(c), c) for c in report.columns],
            notes=_notes(report),
            grids=_grids(report),
            has_reference=any(cell.reference for line in lines for cell in line.cells if cell),
            total=count_judged(report.runs),
            has_samples=report.has_samples,
        ),
    )
    for name, benchmark in report.benchmarks.items():
        files = sampled.get(name)
        yield (
            page_of("benchmark", name),
            _render(
                "benchmark.html",
                **shared,
                benchmark=benchmark,
                lines=[line for line in lines if line.benchmark == name],
                statistics=views.statistics(files) if files else [],
                charts=views.charts_of(files, _program_ends(report, name)) if files else [],
            ),
        )
        if files:
            yield page_of("samples", name), _render("samples.html", **shared, benchmark=benchmark, data=safe(name))
    for run in report.runs:
        yield (
            page_of("run", run.store.name),
            _render(
                "run.html",
                **shared,
                run=run,
                facts=views.run_facts(run),
                usage=views.usage_of(run, report.columns, sampled),
            ),
        )


def _notes(report: Report) -> list[tuple[str, list[str]]]:
    """(run, its notes); the notes that scoring made are those under its table."""
    found = []
    for run in report.runs:
        stored = run.store.results().get("notes")
        notes = stored if stored is not None else score_notes(run.plan, run.scores, run.manifest.get("engines", {}))
        found.append((run.store.name, [str(note) for note in notes]))
    return [(name, notes) for name, notes in found if notes]


def _program_ends(report: Report, benchmark: str) -> list[Mapping[str, int]]:
    """How each column's generated programs ended: class -> number; empty where there are none."""
    found: list[Mapping[str, int]] = []
    for column in report.columns:
        scores = [s for s in report.run_of(column).scores if (s.model, s.benchmark) == (column.model, benchmark)]
        found.append(next((s.counts.programs for s in scores if s.level == "headline"), {}))
    return found


def _grids(report: Report) -> list[views.Heat]:
    """The heat maps of needle benchmarks."""
    found = []
    for column in report.columns:
        run = report.run_of(column)
        scores = [s for s in run.scores if s.model == column.model]
        for grid in grids_of(scores, run.plan.benchmarks, run.plan.cut.is_cut):
            found.append(views.heat(replace(grid, model=column.label)))
    return found


def page_of(kind: str, name: str) -> str:
    """The file of a page about something."""
    return f"{kind}-{safe(name)}.html"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("evalkit.report.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["printable"] = lambda text: printable(str(text))
    made.filters["minus"] = lambda text: str(text).replace("-", "−")
    made.globals.update(
        page=lambda kind, name: quote(page_of(kind, name)), key=charts.key, page_folder=lambda name: quote(safe(name))
    )
    return made


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
