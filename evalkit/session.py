"""One run from plan to table: find or make its folder, run its jobs, score, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.core.digest import plain
from evalkit.core.errors import EvalkitError
from evalkit.core.records import Job, Score
from evalkit.execution.pending import open_jobs
from evalkit.execution.progress import ProgressLog
from evalkit.execution.recorded import RecordedRunner
from evalkit.execution.runner import JobFailure, Outcome, Progress, Runner
from evalkit.plan.manifest import Pair, RunPlan, from_manifest, to_manifest
from evalkit.plan.planning import Planned, make_jobs
from evalkit.plan.task import Task
from evalkit.report.heatmap import draw, grids_of
from evalkit.report.notes import notes_of, score_notes, unsafe_notes
from evalkit.report.summary import Summarizer, load_summarizer, reference_columns
from evalkit.report.table import Table, make_table, pick_rows, without_subsets
from evalkit.report.tables import as_csv, as_markdown, as_text
from evalkit.results.environment import environment
from evalkit.results.store import COMPLETE, INCOMPLETE, RunStore, create_run, find_unfinished, open_run
from evalkit.scoring import aggregate
from evalkit.scoring.score import NEEDS_CODE, Options, SubsetResult, score_subset

Watch = Callable[[str, Sequence[Job]], Progress]
"""Given a title and the jobs, returns what is told of their progress."""
Causes = dict[tuple[str, str], dict[str, str]]


@dataclass(frozen=True)
class Finished:
    """A run that was scored."""

    store: RunStore
    scores: tuple[Score, ...]
    table: Table
    failures: tuple[JobFailure, ...]
    text: str
    """The table for the terminal."""

    @property
    def complete(self) -> bool:
        """Whether every number is there, over all samples."""
        return not self.failures and not any(s.value is None or s.n < s.n_expected for s in self.scores)


def choose_store(
    planned: Planned, parent: Path, command: Sequence[str], *, new: bool, reuse: str | None
) -> tuple[RunStore, bool]:
    """(the run's folder, does it continue an older one): the one named, else the newest unfinished of this plan."""
    manifest = {**to_manifest(planned.plan, command), "environment": environment()}
    if reuse is not None:
        found: RunStore | None = open_run(reuse, parent)
    else:
        found = None if new else find_unfinished(parent, planned.plan.hash)
    if found is None:
        return create_run(parent, manifest), False
    with found.locked():  # not under the hands of a command that works on it
        before = found.manifest()
        found.write_manifest({**before, **manifest, "earlier": _earlier(before), "status": INCOMPLETE})
    return found, True


def _earlier(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The commands that worked on a run before, and how fast they were told to be; the newest last."""
    speeds = {name: entry.get("performance", {}) for name, entry in manifest.get("models", {}).items()}
    last = {"command": manifest.get("command"), "performance": speeds, "engines": manifest.get("engines", {})}
    return [*manifest.get("earlier", ()), last]


def infer(planned: Planned, store: RunStore, runner: Runner, watch: Watch) -> Outcome:
    """Ask for everything that has no answer in the store yet."""
    every = make_jobs(planned)
    jobs = open_jobs(planned, store, every)
    if not jobs:
        return Outcome()
    runner = RecordedRunner(planned.tasks, planned.recorded, runner)
    log = ProgressLog(store, every, jobs, watch("inference", jobs))
    log.write()
    try:
        outcome = runner.run(store, planned.plan, jobs, log)
    finally:
        log.write()
    facts = {**store.manifest().get("engines", {}), **plain(outcome.facts)}
    failures = [{**plain(f.job), "cause": f.cause, "hint": f.hint, "log": f.log} for f in outcome.failures]
    store.set_status(INCOMPLETE, engines=facts, failures=failures)
    return outcome


def score_run(
    store: RunStore,
    options: Options,
    planned: Planned | None = None,
    failures: Sequence[JobFailure] = (),
    summarizer: str | None = None,
    config_dirs: Sequence[str] = (),
    reference_column: str = "",
) -> Finished:
    """Score what is in the store and write verdicts, scores and report files."""
    plan = planned.plan if planned else from_manifest(store.manifest())
    causes = _causes(plan, planned, store, failures)
    engines = store.manifest().get("engines", {})
    scores: list[Score] = []
    for pair in plan.pairs:
        task = (planned.tasks.get(pair) if planned else None) or plan.task(pair)
        known = causes.get((pair.model, pair.benchmark), {})
        noise = engines.get(pair.model, {}).get("score_noise")
        scores += score_pair(store, plan, pair, task, options, known, noise)
    notes = [*notes_of(plan, failures, engines), *score_notes(plan, scores, engines)]
    notes += unsafe_notes(plan, options.unconfined())
    table = make_table(scores, list(plan.models), notes)
    finished = Finished(store, tuple(scores), table, tuple(failures), "")
    text = write_report(finished, open_catalog(config_dirs), summarizer, reference_column)
    finished = replace(finished, text=text)
    store.write_scores({"scores": scores, "limited": plan.cut.is_cut, "complete": finished.complete})
    store.set_status(COMPLETE if finished.complete else INCOMPLETE)
    write_heat_maps(finished, plan)
    return finished


def score_pair(
    store: RunStore,
    plan: RunPlan,
    pair: Pair,
    task: Task,
    options: Options,
    causes: Mapping[str, str],
    noise: float | None = None,
) -> list[Score]:
    """Table rows of one model on one benchmark; verdicts go to the store. `noise`: see `score_subset`."""
    model, fingerprint = plan.models[pair.model], plan.fingerprints[pair.model]
    replies = store.replies(pair.model, pair.benchmark)
    results: dict[str, SubsetResult] = {}
    subsets = task.scored if replies else task.subsets
    for subset in subsets if replies else ():
        result = score_subset(task, subset, model, fingerprint, replies, options, plan.seed, noise)
        results[subset] = result
        store.write_verdicts(pair.model, pair.benchmark, subset, result.verdicts)
    known = dict(causes)
    for subset in subsets if not replies else ():
        known.setdefault(subset, "no answers in the store")
    return aggregate.scores_of(pair.model, plan.benchmarks[pair.benchmark], results, subsets, known)


def _causes(plan: RunPlan, planned: Planned | None, store: RunStore, failures: Sequence[JobFailure]) -> Causes:
    """(model, benchmark) -> subset -> why it has no full result."""
    causes: Causes = {}
    for failure in failures:
        job = failure.job
        causes.setdefault((job.model, job.benchmark), {})[job.subset] = failure.cause
    for model, error in (planned.broken if planned else {}).items():
        for pair in plan.pairs:
            if pair.model == model:
                subsets = plan.task(pair).subsets
                causes[(model, pair.benchmark)] = {s: error.message for s in subsets}
    return causes


def write_report(finished: Finished, catalog: ConfigCatalog, name: str | None, column: str = "") -> str:
    """summary.txt, .csv and .md in the run's folder; returns the text for the terminal.

    The files hold every subset; the terminal gets headlines and groups.
    """
    table, store = finished.table, finished.store
    summarizer = load_summarizer(name, catalog, column) if name else Summarizer("", "", (), None)
    full = pick_rows(table, summarizer.rows, summarizer.stand_ins) if summarizer.rows else table
    heads, cells = reference_columns(full, summarizer)
    notes = (*full.notes, summarizer.notes) if summarizer.notes else full.notes
    full = replace(full, title=summarizer.title, notes=notes)
    store.write_report("summary.txt", as_text(full, summarizer.decimals, cells, heads))
    store.write_report("summary.md", as_markdown(full, summarizer.decimals, cells, heads))
    exact_heads, exact = reference_columns(full, summarizer, exact=True)
    store.write_report("summary.csv", as_csv(full, exact, exact_heads))
    short = full if summarizer.rows else without_subsets(full)
    heads, cells = reference_columns(short, summarizer)
    return as_text(short, summarizer.decimals, cells, heads)


def write_heat_maps(finished: Finished, plan: RunPlan) -> None:
    """A heat map, as PNG and SVG, beside the summary for each model and needle benchmark of the run."""
    for grid in grids_of(finished.scores, plan.benchmarks, plan.cut.is_cut):
        for kind, content in draw(grid).items():
            finished.store.write_picture("heatmap", grid.model, grid.row, kind, content)


def to_json(finished: Finished) -> dict[str, Any]:
    """The run for machines."""
    return {
        "run": str(finished.store.folder),
        "complete": finished.complete,
        "scores": plain(list(finished.scores)),
        "failures": [{**plain(f.job), "cause": f.cause, "hint": f.hint, "log": f.log} for f in finished.failures],
        "notes": list(finished.table.notes),
    }


def needs_code(finished: Finished) -> bool:
    """Whether rows were left out for want of --allow-code."""
    return any(s.flag.startswith(NEEDS_CODE) for s in finished.scores)


def refuse_incomplete(finished: Finished) -> EvalkitError | None:
    """The error that a run with gaps ends in; None when it is complete."""
    if finished.complete:
        return None
    from evalkit.core.errors import RunFailed

    if needs_code(finished):
        return RunFailed("generated programs were not run", "give --allow-code to score the code benchmarks")
    gaps = sorted({f"{s.model} {s.benchmark}" for s in finished.scores if s.value is None or s.n < s.n_expected})
    return RunFailed(f"incomplete: {', '.join(gaps)}", "mend the cause above and run the same command: it continues")
