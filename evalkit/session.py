"""One run from options to table, the same for the command line and for Python: plan, folder, jobs, scores, report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evalkit.configs.catalog import open_catalog
from evalkit.core.calls import make_solver
from evalkit.core.digest import plain
from evalkit.core.errors import ConfigError, DataError, EvalkitError, ModelError, RunFailed, StoreError
from evalkit.core.records import Job, Sample, Score, Verdict
from evalkit.engines.catalog import entry_of
from evalkit.execution.local import LocalRunner
from evalkit.execution.pending import index_subset, open_jobs, write_samples
from evalkit.execution.progress import ProgressLog, read_standings
from evalkit.execution.recorded import RecordedRunner
from evalkit.execution.runner import JobFailure, Outcome, Progress, Runner
from evalkit.plan.extend import extended, with_earlier_subsets
from evalkit.plan.jobs import make_jobs
from evalkit.plan.manifest import from_manifest, to_manifest
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import Pair, Planned, RunPlan, make_plan
from evalkit.plan.task import part_of, subsets_of
from evalkit.report.contamination import absent_sets
from evalkit.report.contamination import section as contamination
from evalkit.report.heatmap import as_csv as cells_csv
from evalkit.report.heatmap import draw, grids_of, side_by_side
from evalkit.report.html.build import count_judged, write_pages
from evalkit.report.notes import notes_of, score_notes, unsafe_notes
from evalkit.report.results import results_of
from evalkit.report.summary import Summarizer, load_summarizer, reference_columns
from evalkit.report.table import Table, make_table, pick_rows, without_subsets
from evalkit.report.tables import as_csv, as_markdown, as_text
from evalkit.results.environment import environment
from evalkit.results.index import IndexedSample, keys_by_sample, read_samples, request_version, sample_lines
from evalkit.results.scored import encode_score, open_scored
from evalkit.results.store import COMPLETE, INCOMPLETE, RunStore, create_run, disk_errors, find_unfinished, open_run
from evalkit.scoring import aggregate
from evalkit.scoring.judges.panel import Panel
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.score import Options, SubsetResult, score_subset

Watch = Callable[[str, Sequence[Job]], Progress]
"""Given a title and the jobs, returns what is called with their progress."""
Causes = dict[tuple[str, str], dict[str, str]]
"""(model, benchmark) -> subset -> why it has no full result."""
CONTINUES = "fix the cause above and run the same command: it continues"
MOST_SAMPLES = 100_000
"""Answers up to which a run's report has pages of samples by itself: about a minute, and a copy of the replies.
`run.py report` writes them for any number."""
REBUILT = "rebuilt"
"""Writes index lines for runs that have none."""


@dataclass(frozen=True)
class ReportOptions:
    """What the report of a run shows."""

    summarizer: str | None = None
    reference_column: str = ""
    config_dirs: tuple[str, ...] = ()
    pages: bool = True
    """Write the HTML report too."""


@dataclass(frozen=True)
class RunSettings:
    """How a run is done; what it computes is decided by `RunOptions`."""

    command: tuple[str, ...]
    """As the manifest keeps it."""
    work_dir: Path = Path("outputs")
    new: bool = False
    """Start afresh instead of continuing an unfinished run of an equal plan."""
    reuse: str | None = None
    """Continue this run; empty: the newest."""
    mode: Literal["all", "infer", "score"] = "all"
    runner: Runner = field(default_factory=LocalRunner)
    scoring: Options = field(default_factory=Options)
    report: ReportOptions = field(default_factory=ReportOptions)


@dataclass(frozen=True)
class Listener:
    """Whom a run tells what it does."""

    planned: Callable[[Planned], None] = lambda planned: None
    """Called with the checked plan before anything else is done."""
    opened: Callable[[RunStore, bool], None] = lambda store, continued: None
    """Called with the run's folder, and whether it continues an older run."""
    watch: Watch = lambda title, jobs: lambda job, share: None


@dataclass(frozen=True)
class Finished:
    """A run that was scored."""

    store: RunStore
    scores: tuple[Score, ...]
    table: Table
    failures: tuple[JobFailure, ...]
    text: str
    """The table for the terminal."""
    pages: Path | None = None
    """The first page of the HTML report; None when it was not asked for, or could not be written."""
    pages_fault: str = ""
    """Why the HTML report could not be written."""

    @property
    def complete(self) -> bool:
        """Whether every number is there, over all samples."""
        return not self.failures and not any(s.has_gap for s in self.scores)

    @property
    def error(self) -> EvalkitError | None:
        """What a run with gaps ends in; None when it is complete."""
        return refuse_incomplete(self)


@dataclass(frozen=True)
class Inferred:
    """A run of `mode: infer`: what was asked is in the store, nothing is scored."""

    store: RunStore
    failures: tuple[JobFailure, ...]
    broken: Mapping[str, ModelError] = field(default_factory=dict)
    """Models that could not be used, and why."""

    @property
    def error(self) -> EvalkitError | None:
        """What a run that did not ask for everything ends in; None when it did."""
        causes = [f"{model}: {error.message}" for model, error in self.broken.items()]
        causes += [f"{f.job.model} {f.job.benchmark} {f.job.subset}: {f.cause}" for f in self.failures]
        what = f"not everything was answered: {'; '.join(dict.fromkeys(causes))}"
        return RunFailed(what, CONTINUES) if causes else None


def run(options: RunOptions, settings: RunSettings, listener: Listener | None = None) -> Finished | Inferred:
    """Plan, ask and score; EvalkitError when the run is refused or its results cannot be written."""
    listener = listener or Listener()
    if settings.reuse is not None:  # the newest run may be another one when the plan is made
        settings = replace(settings, reuse=str(open_run(settings.reuse, settings.work_dir).folder))
    planned = with_permission(plan_of(options, settings), settings)
    listener.planned(planned)
    store, continued = choose_store(
        planned, settings.work_dir, settings.command, new=settings.new, reuse=settings.reuse
    )
    listener.opened(store, continued)
    with store.locked():
        write_samples(planned.plan, planned.runnable, store, needing_rows(planned.plan))
        outcome = Outcome() if settings.mode == "score" else infer(planned, store, settings.runner, listener.watch)
        if settings.mode == "infer":
            return Inferred(store, outcome.failures, planned.broken)
        return score_run(store, settings.scoring, planned, outcome.failures, settings.report)


def plan_of(options: RunOptions, settings: RunSettings) -> Planned:
    """The checked plan of a command; one that reuses a run extends the run's plan."""
    if settings.reuse is None:
        return make_plan(options)
    earlier = from_manifest(open_run(settings.reuse, settings.work_dir).manifest())
    return extended(make_plan(options, lambda selection: with_earlier_subsets(selection, earlier)), earlier)


def with_permission(planned: Planned, settings: RunSettings) -> Planned:
    """The plan with what its tools may do; ConfigError where conversations need tools that may not, or cannot, run."""
    asked = [planned.plan.benchmarks[pair.benchmark] for pair in planned.runnable] if settings.mode != "score" else []
    calls = [(benchmark.name, variant.solver) for benchmark in asked for variant in benchmark.variants]
    need = [name for name, call in calls if call and make_solver(call).runs_code]
    obstacle = settings.scoring.obstacle() if need else None
    if obstacle:
        hint = "--allow-code" if obstacle.kind == "code_not_allowed" else "run.py doctor"
        raise ConfigError(f"{need[0]}: models run programs in its conversations; {obstacle.text}", hint)
    scoring = settings.scoring
    code: Any = ("unsafe" if scoring.unsafe_code else "sandboxed") if scoring.allow_code else "refused"
    return replace(planned, plan=replace(planned.plan, code=code))


def choose_store(
    planned: Planned, parent: Path, command: Sequence[str], *, new: bool, reuse: str | None
) -> tuple[RunStore, bool]:
    """(the run's folder, does it continue an older one): the one named, else the newest unfinished of this plan."""
    manifest = {**to_manifest(planned.plan, command), "environment": environment()}
    if reuse is not None:
        older: RunStore | None = open_run(reuse, parent)
    else:
        older = None if new else find_unfinished(parent, planned.plan.hash)
    if older is None:
        return create_run(parent, manifest), False
    with older.locked():  # not while another command works on it
        before = older.manifest()
        older.write_manifest({**before, **manifest, "earlier": _earlier(before), "status": INCOMPLETE})
    return older, True


def _earlier(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The commands that worked on a run before, and their settings of speed; the newest last."""
    speeds = {name: entry.get("performance", {}) for name, entry in manifest.get("models", {}).items()}
    last = {"command": manifest.get("command"), "performance": speeds, "engines": manifest.get("engines", {})}
    return [*manifest.get("earlier", ()), last]


def needing_rows(plan: RunPlan) -> set[str]:
    """Benchmarks whose metric looks at columns of the row."""
    return {
        name
        for name, benchmark in plan.benchmarks.items()
        if any(make_metric(variant.metric).needs_row for variant in benchmark.variants)
    }


def infer(planned: Planned, store: RunStore, runner: Runner, watch: Watch) -> Outcome:
    """Ask for everything that has no answer in the store yet."""
    every = make_jobs(planned)
    jobs = open_jobs(planned, store, every)
    if not jobs:
        return Outcome()
    runner = RecordedRunner(planned.recorded, runner)
    kept = [s for s in read_standings(store.progress()) if Pair(s.model, s.benchmark) in planned.kept]
    log = ProgressLog(store, every, jobs, watch("inference", jobs), kept)
    log.write()
    try:
        outcome = runner.run(store, planned.plan, jobs, log)
    finally:
        log.write()
    before = store.manifest()
    facts = _merged_facts(planned.plan, before.get("engines", {}), plain(outcome.facts))
    failures = [f for f in before.get("failures", ()) if Pair(f["model"], f["benchmark"]) in planned.kept]
    failures += [{**plain(f.job), "cause": f.cause, "hint": f.hint, "log": f.log} for f in outcome.failures]
    store.set_status(INCOMPLETE, engines=facts, failures=failures)
    return outcome


def _merged_facts(plan: RunPlan, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What the engines of a run report; recorded outputs have facts of every benchmark."""
    merged = {**before, **now}
    for model in now:
        if entry_of(plan.models[model]).recorded:
            merged[model] = {**before.get(model, {}), **now[model]}
    return merged


def score_run(
    store: RunStore,
    options: Options,
    planned: Planned | None = None,
    failures: Sequence[JobFailure] = (),
    report: ReportOptions | None = None,
) -> Finished:
    """Score what is in the store and write verdicts, scores and report files.

    Without `planned` the store is all that is read: no data, no prompts, no tokenizer.
    """
    plan = planned.plan if planned else from_manifest(store.manifest())
    report = report or ReportOptions()
    causes = _causes(plan, planned, failures)
    engines = store.manifest().get("engines", {})
    scores: list[Score] = []
    with closing(Panel(store, plan.judges, plan.judge_fingerprints, plan.panel)) as panel:
        for pair in plan.pairs:
            noise = engines.get(pair.model, {}).get("score_noise")
            failed = causes.get((pair.model, pair.benchmark), {})
            scores += score_pair(store, plan, pair, options, failed, noise, panel)
    notes = [*notes_of(plan, failures, engines), *score_notes(plan, scores, engines)]
    notes += [*unsafe_notes(plan, options.unconfined()), *absent_sets(plan.benchmarks, scores)]
    table = make_table(scores, list(plan.models), notes)
    finished = Finished(store, tuple(scores), table, tuple(failures), "")
    summarizer = _summarizer(report)
    text = write_report(finished, plan, summarizer or Summarizer("", "", (), None))
    finished = replace(finished, text=text)
    store.write_scores(
        {"scores": [encode_score(s) for s in scores], "limited": plan.cut.is_cut, "complete": finished.complete}
    )
    store.write_results(
        results_of(store.name, store.manifest(), plan, scores, failures, table.notes, finished.complete)
    )
    store.set_status(COMPLETE if finished.complete else INCOMPLETE)
    write_heat_maps(finished, plan)
    return with_pages(finished, summarizer) if report.pages else finished


def _summarizer(options: ReportOptions) -> Summarizer | None:
    """The summarizer that the options name; ConfigError for a wrong name."""
    if not options.summarizer:
        return None
    return load_summarizer(options.summarizer, open_catalog(options.config_dirs), options.reference_column)


def with_pages(finished: Finished, summarizer: Summarizer | None) -> Finished:
    """The run with its HTML report written; a fault there does not cost the run its table."""
    store = finished.store
    try:
        stored = open_scored(store)
        few = count_judged([stored]) <= MOST_SAMPLES
        return replace(finished, pages=write_pages([stored], store.pages, summarizer, samples=few))
    except StoreError as error:
        return replace(finished, pages_fault=error.message)
    except Exception as error:  # everything else is written; told on the terminal, whole in the log
        path = store.log_path("report")
        with disk_errors(path), path.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.write("".join(traceback.format_exception(error)))
        return replace(finished, pages_fault=f"{type(error).__name__}: {error} (see {path})")


def score_pair(
    store: RunStore,
    plan: RunPlan,
    pair: Pair,
    options: Options,
    causes: Mapping[str, str],
    noise: float | None = None,
    panel: Panel | None = None,
) -> list[Score]:
    """Table rows of one model on one benchmark; verdicts go to the store. `noise`: see `score_subset`."""
    benchmark = plan.benchmarks[pair.benchmark]
    known = dict(causes)
    if not store.has_replies(pair.model, pair.benchmark):
        names = subset_names(store, plan, pair)
        for subset in names:
            known.setdefault(subset, "no answers in the store")
        return aggregate.scores_of(pair.model, benchmark, {}, names, known)
    results: dict[str, SubsetResult] = {}
    scored: list[str] = []
    compared: dict[str, Sequence[Verdict]] = {}
    asked = benchmark.with_draws(plan.facts_of(pair).draws)
    reasoning = plan.models[pair.model].reasoning
    changed = data_changed(store, plan, pair)
    for subset, samples in stored_subsets(store, plan, pair):
        scored.append(subset)
        try:
            replies = store.replies(pair.model, pair.benchmark, subset)
            tools = replace(options, jury=panel.at(pair.benchmark, subset)) if panel else options
            result = score_subset(part_of(asked, subset), subset, samples, replies, tools, reasoning, noise)
        except StoreError:
            raise
        except Exception as error:  # told in the table: the fault of one subset does not cost the others
            known[subset] = scoring_fault(store, pair, subset, error)
            continue
        store.write_verdicts(pair.model, pair.benchmark, subset, result.verdicts)
        compared |= {subset: result.verdicts} if benchmark.contrast else {}
        own = plan.facts_of(pair).own_exemplars.get(subset, 0)
        gaps = result.n < result.n_expected
        damaged = store.damaged_lines(pair.model, pair.benchmark, subset) if gaps else 0
        results[subset] = replace(result, verdicts=(), own_exemplars=own, data_changed=changed, damaged=damaged)
    rows = aggregate.scores_of(pair.model, benchmark, results, scored, known)
    return rows + (aggregate.contrast_scores(pair.model, benchmark, compared) if not known else [])


def scoring_fault(store: RunStore, pair: Pair, subset: str, error: Exception) -> str:
    """Why a subset could not be scored; the traceback goes to the run's log of scoring."""
    path = store.log_path("scoring")
    with disk_errors(path), path.open("a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(f"{pair.model} {pair.benchmark} {subset}\n{''.join(traceback.format_exception(error))}\n")
    if isinstance(error, EvalkitError):
        return f"{subset} cannot be scored: {error.clause}"
    return f"{subset} cannot be scored: {type(error).__name__}: {error} (see {path.name} in the run's logs)"


def subset_names(store: RunStore, plan: RunPlan, pair: Pair) -> list[str]:
    """The subsets that would be scored, without reading data: those with samples in the store, else all."""
    return kept_subsets(store, plan, pair) or subsets_of(plan.benchmarks[pair.benchmark])


def kept_subsets(store: RunStore, plan: RunPlan, pair: Pair) -> list[str]:
    """The subsets with samples in the store; none in runs of earlier versions."""
    fingerprint = plan.facts_of(pair).data_fingerprint
    names = subsets_of(plan.benchmarks[pair.benchmark]) if fingerprint else []
    return [subset for subset in names if store.has_samples(pair.benchmark, fingerprint, subset)]


def data_changed(store: RunStore, plan: RunPlan, pair: Pair) -> bool:
    """Whether a run that keeps no samples is scored by other data than its model was asked."""
    fingerprint = plan.facts_of(pair).data_fingerprint
    kept = kept_subsets(store, plan, pair)
    return bool(fingerprint) and not kept and plan.task(pair).fingerprint() != fingerprint


def stored_subsets(store: RunStore, plan: RunPlan, pair: Pair) -> Iterator[tuple[str, list[IndexedSample]]]:
    """Every scored subset with its samples and their keys, one at a time.

    A run of an earlier version of evalkit keeps neither: its samples are read from the data, its prompts rendered.
    """
    fingerprint, version = plan.facts_of(pair).data_fingerprint, request_version(plan, pair)
    if not kept_subsets(store, plan, pair):
        write_samples(plan, [pair], store, needing_rows(plan))
    for subset in subset_names(store, plan, pair):
        content = store.samples(pair.benchmark, fingerprint, subset)
        if content is None:
            continue
        samples = _samples_of(store, plan, pair, subset, content)
        keys = keys_by_sample(store.index_lines(pair.model, pair.benchmark, subset), version)
        if not keys and store.has_replies(pair.model, pair.benchmark, subset):
            index_subset(plan, pair, store, subset, plan.task(pair).samples(subset), REBUILT)
            keys = keys_by_sample(store.index_lines(pair.model, pair.benchmark, subset), version)
        yield subset, [IndexedSample(sample, keys.get(sample.id, {})) for sample in samples]


def _samples_of(store: RunStore, plan: RunPlan, pair: Pair, subset: str, content: bytes) -> list[Sample]:
    """The stored samples of a subset; damaged ones are written anew, where the data is what it was."""
    place = f"samples of {pair.benchmark} [{subset}] in {store.folder}"
    try:
        return list(read_samples(content, subset, place))
    except StoreError as damage:
        fingerprint = plan.facts_of(pair).data_fingerprint
        try:
            task = plan.task(pair)
            if task.fingerprint() != fingerprint:
                raise damage
            content = sample_lines(task.samples(subset), pair.benchmark in needing_rows(plan))
        except DataError:
            raise damage from None
        store.write_samples(pair.benchmark, fingerprint, subset, content)
        return list(read_samples(content, subset, place))


def _causes(plan: RunPlan, planned: Planned | None, failures: Sequence[JobFailure]) -> Causes:
    """Why subsets have no full result: failed jobs, and models that could not be used."""
    causes: Causes = {}
    for failure in failures:
        job = failure.job
        causes.setdefault((job.model, job.benchmark), {})[job.subset] = failure.cause
    for model, error in (planned.broken if planned else {}).items():
        for pair in plan.pairs:
            if pair.model == model and planned and pair not in planned.kept:
                causes[(model, pair.benchmark)] = dict.fromkeys(
                    subsets_of(plan.benchmarks[pair.benchmark]), error.message
                )
    return causes


def write_report(finished: Finished, plan: RunPlan, summarizer: Summarizer) -> str:
    """summary.txt, .csv and .md in the run's folder; returns the text for the terminal.

    The files hold every subset; the terminal gets headlines and groups.
    """
    table, store = finished.table, finished.store
    kinds = {name: model.kind for name, model in plan.models.items()}
    bound = summarizer.bindings
    full = pick_rows(table, summarizer.rows, summarizer.stand_ins, bound, kinds) if summarizer.rows else table
    heads, cells = reference_columns(full, summarizer)
    full = replace(full, title=summarizer.title, notes=(*full.notes, *summarizer.remarks))
    in_text, in_markdown = (contamination(plan.benchmarks, finished.scores, s) for s in ("simple", "github"))
    store.write_report("summary.txt", _below(as_text(full, summarizer.decimals, cells, heads), in_text))
    store.write_report("summary.md", _below(as_markdown(full, summarizer.decimals, cells, heads), in_markdown))
    exact_heads, exact = reference_columns(full, summarizer, exact=True)
    store.write_report("summary.csv", as_csv(full, exact, exact_heads))
    short = full if summarizer.rows else without_subsets(full)
    heads, cells = reference_columns(short, summarizer)
    return _below(as_text(short, summarizer.decimals, cells, heads), in_text)


def _below(table: str, section: str) -> str:
    """A table, and a section of the report below it where there is one."""
    return f"{table}\n{section}" if section else table


def write_heat_maps(finished: Finished, plan: RunPlan) -> None:
    """Heat maps, as PNG and SVG, beside the summary: of each model and needle benchmark of the run, of all models
    side by side, and the cells as csv."""
    store, grids = finished.store, grids_of(finished.scores, plan.benchmarks, plan.cut.is_cut)
    for grid in grids:
        for kind, content in draw(grid).items():
            store.write_picture("heatmap", grid.model, grid.row, kind, content)
    for row, together in side_by_side(grids).items():
        for kind, content in draw(*together).items():
            store.write_picture("heatmaps", "all", row, kind, content)
    for row in dict.fromkeys(grid.row for grid in grids):
        store.write_picture("cells", "all", row, "csv", cells_csv([grid for grid in grids if grid.row == row]))


def to_json(ended: Finished | Inferred) -> dict[str, Any]:
    """The run for machines; `error`, `hint` and `exit_code` are there when it is not complete."""
    scores, notes = (ended.scores, ended.table.notes) if isinstance(ended, Finished) else ((), ())
    error = ended.error
    refused = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code} if error else {}
    return {
        "run": str(ended.store.folder),
        "complete": error is None,
        "scores": [encode_score(s) for s in scores],
        "failures": [{**plain(f.job), "cause": f.cause, "hint": f.hint, "log": f.log} for f in ended.failures],
        "notes": list(notes),
        **refused,
    }


def needs_code(finished: Finished) -> bool:
    """Whether rows were left out because generated programs may not be run."""
    return any(issue.kind == "code_not_allowed" for s in finished.scores for issue in s.issues)


def refuse_incomplete(finished: Finished) -> EvalkitError | None:
    """The error that a run with gaps ends in; None when it is complete."""
    if finished.complete:
        return None
    if needs_code(finished):
        return RunFailed("generated programs were not run", "give --allow-code to score the code benchmarks")
    gaps = sorted({f"{s.model} {s.benchmark}" for s in finished.scores if s.has_gap})
    return RunFailed(f"incomplete: {', '.join(gaps)}", CONTINUES)
