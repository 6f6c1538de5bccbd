"""The run: plan, infer, score, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import check_summarizer
from evalkit.cli.reporting import report, warn_unsafe
from evalkit.core.errors import EXIT_FAILED, EXIT_OK
from evalkit.core.records import Job
from evalkit.engines.openai_api.options import ENGINE as API
from evalkit.execution.debug import DebugRunner
from evalkit.execution.local import LocalRunner
from evalkit.execution.runner import Limits, Outcome, Progress, Runner
from evalkit.plan.planning import Planned, RunOptions, make_plan
from evalkit.results.store import RunStore
from evalkit.scoring.score import Options
from evalkit.session import choose_store, infer, refuse_incomplete, score_run, to_json

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
    planned = make_plan(options_of(options))
    if options["dry_run"]:
        return dry_run(planned, options["calibrate"], options["as_json"])
    say = _sayer(options["as_json"])
    store, continued = choose_store(
        planned, Path(options["work_dir"]), sys.argv, new=options["new"], reuse=options["reuse"]
    )
    say(f"{'continuing' if continued else 'run'} {store.folder}")
    with store.locked():
        outcome = _infer(planned, store, options, say)
        if options["mode"] == "infer":
            for failure in outcome.failures:
                say(f"failed: {failure.job.model} {failure.job.benchmark} {failure.job.subset}: {failure.cause}")
            return EXIT_FAILED if outcome.failures or planned.broken else EXIT_OK
        scoring = Options(options["allow_code"], options["max_num_workers"] or 0, options["unsafe_code"])
        warn_unsafe(planned.plan, scoring)
        finished = score_run(
            store,
            scoring,
            planned,
            outcome.failures,
            options["summarizer"],
            options["config_dirs"],
            options["reference_column"],
        )
    click.echo(
        json.dumps(to_json(finished), ensure_ascii=False) if options["as_json"] else finished.text,
        nl=options["as_json"],
    )
    say(f"saved in {store.folder / 'report'}")
    error = refuse_incomplete(finished)
    if error is not None:
        return EXIT_FAILED if options["as_json"] else report(error)
    return EXIT_OK


def _infer(planned: Planned, store: RunStore, options: Mapping[str, Any], say: Any) -> Outcome:
    for remark in planned.remarks:
        say(remark)
    for name, error in planned.broken.items():
        say(f"failed: {name}: {error.message}")
    if options["mode"] == "score":
        return Outcome()
    if any(spec.engine == API for spec in planned.plan.models.values()):
        from evalkit.plan.forecast import spending

        for line in spending(planned):
            say(line)
    runner = _runner(options)
    with Bars(quiet=options["as_json"]) as bars:
        return infer(planned, store, runner, bars.watch)


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
    return (lambda text: None) if quiet else (lambda text: click.echo(text, err=True))


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
        click.echo(json.dumps([asdict(item) for item in found]))
    else:
        click.echo(_forecast_table(found, calibrate))
        said = "every model was loaded and timed on a few samples" if calibrate else "no model was loaded"
        click.echo(f"plan {planned.plan.hash[:12]}; {said}; tokens are counted on up to 32 samples a subset")
    for remark in planned.remarks:
        click.echo(remark, err=True)
    for name, error in planned.broken.items():
        click.echo(f"cannot be used: {name}: {error}", err=True)
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
