"""The run: plan, infer, score, print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import check_summarizer
from evalkit.cli.reporting import report, warn_unsafe
from evalkit.cli.streams import emit, note
from evalkit.core.errors import EXIT_FAILED, EXIT_OK
from evalkit.core.records import Job
from evalkit.engines.catalog import entry_of
from evalkit.execution.debug import DebugRunner
from evalkit.execution.local import LocalRunner
from evalkit.execution.runner import Limits, Progress, Runner
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import Planned, long_prompts, make_plan
from evalkit.report.notes import remarks_of
from evalkit.scoring.score import Options
from evalkit.session import Finished, Inferred, Listener, ReportOptions, RunSettings, run, to_json

if TYPE_CHECKING:
    from evalkit.plan.forecast import Forecast

MODEL_KEYS = (
    "engine", "dtype", "gpus", "attn_implementation", "peft_path", "trust_remote_code", "system_prompt", "max_seq_len",
)  # fmt: skip
"""Options of the command line that are keys of a model config."""


def options_of(options: Mapping[str, Any]) -> RunOptions:
    """The part of the command line that decides results."""
    model = {key: options[key] for key in MODEL_KEYS} | {"max_new_tokens": options["max_out_len"]}
    return RunOptions(
        models=options["models"],
        datasets=options["datasets"],
        hf_paths=options["hf_paths"],
        recorded_field=options["recorded_field"],
        judges=options["judges"],
        kind=options["kind"],
        model_options={k: v for k, v in model.items() if v not in (None, False)},
        overrides=(*options["overrides"], *_model_overrides(options)),
        draws={k: options[k] for k in ("num_samples", "temperature") if options[k] is not None},
        data_root=options["data_root"],
        tokenizer=options["tokenizer"],
        config_dirs=options["config_dirs"],
        limit=options["limit"],
        sample=options["sample"],
        seed=options["seed"],
    )


def _model_overrides(options: Mapping[str, Any]) -> Iterator[str]:
    """Options of the command line that stand deeper in a model config."""
    for name in ("engine_path", "quantization"):
        if options[name]:
            yield f"model.options.{name}={options[name]}"
    if options["reasoning"]:
        yield "model.reasoning={}"


def run_command(options: Mapping[str, Any]) -> int:
    """Everything behind `run.py --models … --datasets …`; returns the exit code."""
    check_summarizer(options["summarizer"], options["reference_column"], options["config_dirs"])
    if options["dry_run"]:
        return dry_run(make_plan(options_of(options)), options["calibrate"], options["as_json"])
    say = _sayer(options["as_json"])
    settings = settings_of(options)
    with Bars(quiet=options["as_json"]) as bars:
        listener = Listener(
            planned=lambda planned: _announce(planned, settings, say),
            opened=lambda store, continued: say(f"{'continuing' if continued else 'run'} {store.folder}"),
            watch=bars.watch,
        )
        finished = run(options_of(options), settings, listener)
    if options["as_json"]:
        emit(to_json(finished))
        return EXIT_OK if finished.error is None else finished.error.exit_code
    if isinstance(finished, Inferred):
        for failure in finished.failures:
            say(f"failed: {failure.job.model} {failure.job.benchmark} {failure.job.subset}: {failure.cause}")
        return EXIT_OK if finished.error is None else finished.error.exit_code
    click.echo(finished.text, nl=False)
    say(f"saved in {finished.store.folder / 'report'}")
    tell_pages(finished, say)
    return EXIT_OK if finished.error is None else report(finished.error)


def tell_pages(finished: Finished, say: Callable[[str], None]) -> None:
    """Where the HTML report is, or why there is none."""
    if finished.pages:
        say(f"open {finished.pages}")
    if finished.pages_fault:
        say(f"the HTML report could not be written: {finished.pages_fault}")


def settings_of(options: Mapping[str, Any]) -> RunSettings:
    """The part of the command line that decides how a run is done."""
    return RunSettings(
        command=tuple(sys.argv),
        work_dir=Path(options["work_dir"]),
        new=options["new"],
        reuse=options["reuse"],
        mode=options["mode"],
        runner=_runner(options),
        scoring=Options(options["allow_code"], options["max_num_workers"] or 0, options["unsafe_code"]),
        report=ReportOptions(
            options["summarizer"], options["reference_column"], options["config_dirs"], not options["no_report"]
        ),
    )


def _announce(planned: Planned, settings: RunSettings, say: Callable[[str], None]) -> None:
    """What a user must know before the run begins."""
    for warning in planned.warnings:
        say(warning)
    for name, error in planned.broken.items():
        say(f"failed: {name}: {error.message}")
    if settings.mode != "score" and any(entry_of(m).pricing(m) for m in planned.plan.models.values()):
        from evalkit.plan.forecast import spending

        for line in spending(planned):
            say(line)
    if settings.mode != "infer":
        warn_unsafe(planned.plan, settings.scoring)


def _runner(options: Mapping[str, Any]) -> Runner:
    """The runner that the command names; those of clusters are imported only when asked for."""
    limits = Limits(options["max_num_workers"], options["stall_timeout"])
    if options["debug"]:
        return DebugRunner()
    if options["runner"] == "ray":
        from evalkit.execution.ray import RayRunner

        return RayRunner(limits, options["ray_address"])
    if options["runner"] == "slurm":
        from evalkit.execution.slurm import SlurmOptions, SlurmRunner

        return SlurmRunner(limits, SlurmOptions(options["partition"], options["qos"], options["time_limit"]))
    return LocalRunner(limits)


def _sayer(quiet: bool) -> Any:
    """Prints remarks beside the result, on standard error."""
    return (lambda text: None) if quiet else note


BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class Bars:
    """Progress bars on a terminal; silent otherwise."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet or not sys.stderr.isatty()
        self.bar: Any = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def watch(self, title: str, jobs: Sequence[Job]) -> Progress:
        """A bar over the cost of `jobs`."""
        from tqdm import tqdm

        samples = sum(job.stop - job.start for job in jobs)
        # the bar goes by cost, so that the remaining time holds when short questions come before long outputs
        total = sum(job.cost for job in jobs) or 1.0
        self.bar = bar = tqdm(total=total, desc=title, bar_format=BAR, disable=self.quiet, dynamic_ncols=True)
        done: dict[int, tuple[Job, float]] = {}

        def progress(job: Job, share: float) -> None:
            done[job.id] = (job, share)
            bar.n = min(total, sum(j.cost * part for j, part in done.values()))
            count = round(sum((j.stop - j.start) * part for j, part in done.values()))
            bar.set_postfix_str(f"{count}/{samples} {job.model} {job.benchmark} {job.subset}", refresh=False)
            bar.refresh()

        return progress


def dry_run(planned: Planned, calibrate: bool, as_json: bool) -> int:
    """What would be asked of which model, and with `calibrate` how long it takes."""
    from evalkit.plan.forecast import calibrated, forecast

    found = forecast(planned)
    found = list(calibrated(planned, found)) if calibrate else found
    if as_json:
        emit([asdict(item) for item in found])
    else:
        click.echo(_forecast_table(found, calibrate))
        said = "every model was loaded and timed on a few samples" if calibrate else "no model was loaded"
        click.echo(f"plan {planned.plan.hash[:12]}; {said}; tokens are counted on up to 32 samples a subset")
    for pair in planned.runnable:
        if (arithmetic := long_prompts(planned.plan, pair)) is not None:
            note(f"{pair.benchmark}: {arithmetic}")
    for warning in planned.warnings:
        note(warning)
    for remark in remarks_of(planned.plan):
        note(remark)
    for name, error in planned.broken.items():
        note(f"cannot be used: {name}: {error}")
    return EXIT_FAILED if planned.broken else EXIT_OK


def _forecast_table(found: Sequence[Forecast], calibrated: bool) -> str:
    """The forecast as text."""
    from tabulate import tabulate

    from evalkit.plan.forecast import duration

    rows = []
    for f in found:
        row = {
            "model": f.model,
            "dataset": f.dataset,
            "version": f.version,
            "mode": f.mode,
            "subsets": f.subsets,
            "samples": f.samples,
            "requests": f.requests,
            "tokens": _number(f.tokens),
            "after sharing": _number(f.unique),
            "written at most": _number(f.written),
        }
        more = {"time of one worker": duration(f.seconds), "memory": f"{(f.memory or 0) / 2**30:.2f} GiB"}
        row |= more if calibrated else {}
        rows.append({**row, "price at most": f"{f.price:,.2f}"} if f.price is not None else row)
    return tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True, stralign="right")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
