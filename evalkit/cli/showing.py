"""`show` prints the exact prompts of a benchmark; `score` rescores a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from evalkit.cli.options import check_summarizer, data_options, summary_options
from evalkit.cli.reporting import report, warn_unsafe
from evalkit.cli.streams import emit, note
from evalkit.core.errors import EXIT_OK

FOLD = 400
"""Longest exemplar part that is shown unfolded."""


@click.command()
@click.argument("name")
@click.option("--subset", metavar="S", help="One subset (default: all with --json, the first otherwise).")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Rows of each subset (default: all with --json, else 1)."
)
@click.option("--kind", type=click.Choice(["base", "chat"]), help="Prompt of a base or a chat model (default: base).")
@data_options
@click.option("--whitespace", is_flag=True, help="Make spaces at line ends, tabs and newlines visible.")
@click.option("--full", is_flag=True, help="Do not fold the exemplars.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def show(
    name: str,
    subset: str | None,
    limit: int | None,
    kind: Any,
    data_root: str | None,
    config_dirs: tuple[str, ...],
    tokenizer: str | None,
    overrides: tuple[str, ...],
    whitespace: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Print prompts exactly as a model gets them."""
    from evalkit.api import load_benchmark

    handle = load_benchmark(
        name, data_root, kind=kind or "base", tokenizer=tokenizer, config_dirs=config_dirs, overrides=overrides
    )
    if not as_json:
        click.echo(facts(handle.benchmark))
    subsets = [subset] if subset else (handle.subsets if as_json else handle.subsets[:1])
    for one in subsets:
        for sample in handle.samples(one, limit or (None if as_json else 1)):
            record = _record(handle, sample, kind or "base")
            if as_json:
                emit(record)
            else:
                click.echo(_for_eyes(record, [] if full else _folds(handle, sample), whitespace))


def _record(handle: Any, sample: Any, kind: str) -> dict[str, Any]:
    b = handle.task.part(sample.subset)
    prompt = handle.render(sample, kind)
    key = "prompts" if b.mode != "gen" else ("messages" if isinstance(prompt, list) else "prompt")
    return {
        "benchmark": b.name,
        "subset": sample.subset,
        "index": sample.index,
        "gold": sample.gold,
        "mode": b.mode,
        key: prompt,
    }


def facts(benchmark: Any) -> str:
    """The config in a few lines."""
    b = benchmark
    steps = " → ".join(c.name for c in b.extract) or "-"
    lines = [
        ("benchmark", f"{b.name}  (hash {b.hash[:12]}, {b.source})"),
        ("mode", f"{' and '.join(sorted(b.modes))}   labels: {', '.join(b.labels) or '-'}"),
        ("data", f"{b.data.path or b.data.file}   subsets: {len(b.members)}"),
        ("extract", steps),
        ("metric", b.metric.name),
        *([("parts", f"by {b.part_key}: {', '.join(b.parts)}; the others as above")] if b.parts else []),
        ("quirks", ", ".join(sorted(b.quirks)) or "-"),
        *([("notes", b.notes)] if b.notes else []),
    ]
    return "\n".join(f"{click.style(key.ljust(10), bold=True)}{value}" for key, value in lines) + "\n"


def _folds(handle: Any, sample: Any) -> list[str]:
    """The exemplar parts of a prompt that are long enough to be folded, the longest first."""
    shots = handle.task.exemplars(sample.subset)
    joined = "\n".join(turn.text for turn in shots.turns)
    parts = [shots.text, joined, *(turn.text for turn in shots.turns)]
    return sorted((p for p in parts if len(joined or shots.text) > FOLD and p), key=len, reverse=True)


def _for_eyes(record: dict[str, Any], folds: list[str], whitespace: bool) -> str:
    head = click.style(f"── {record['subset']}/{record['index']}  gold: {record['gold']!r:.100}", fg="cyan")
    parts = [head]

    def text(value: str) -> str:
        for fold in folds:
            value = value.replace(fold, f"⟨{len(fold)} characters of exemplars; --full shows them⟩\n")
        return _visible(value) if whitespace else value

    if "prompt" in record:
        parts.append(text(record["prompt"]))
    messages = record.get("messages", [])
    folded = [m for m in messages if m["content"] in folds or m["content"].removesuffix("\n") in folds]
    if folded:
        size = sum(len(m["content"]) for m in folded)
        parts.append(f"⟨{len(folded)} exemplar turns, {size} characters; --full shows them⟩")
    for turn in messages:
        if turn not in folded:
            parts += [click.style(f"[{turn['role']}]", fg="green"), text(turn["content"])]
    for label, prompt in record.get("prompts", {}).items():
        parts.append(click.style(f"[{label}]", fg="green"))
        whole = prompt if isinstance(prompt, str) else prompt["context"] + "⟦" + prompt["continuation"] + "⟧"
        parts.append(text(whole))
    return "\n".join(parts)


def _visible(text: str) -> str:
    text = text.replace("\t", "→\t").replace("\r", "␍")
    text = re.sub(r" +(?=\n|$)", lambda m: "␠" * len(m[0]), text)
    return text.replace("\n", "⏎\n")


@click.command()
@click.argument("run")
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--allow-code", is_flag=True, help="Execute generated programs.")
@click.option("--unsafe-code", is_flag=True, help="With --allow-code: execute them even where no sandbox works.")
@summary_options
@click.option("--no-report", is_flag=True, help="Write no HTML report.")
@click.option("--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
@click.pass_context
def score(
    ctx: click.Context,
    run: str,
    work_dir: str,
    allow_code: bool,
    unsafe_code: bool,
    summarizer: str | None,
    reference_column: str,
    no_report: bool,
    config_dirs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Score a run again from its stored replies.

    No model is loaded.
    """
    from evalkit.plan.manifest import from_manifest
    from evalkit.results.store import open_run
    from evalkit.scoring.score import Options
    from evalkit.session import ReportOptions, score_run, to_json

    check_summarizer(summarizer, reference_column, config_dirs)
    store = open_run(run, Path(work_dir))
    scoring = Options(allow_code, unsafe_code=unsafe_code)
    with store.locked():
        warn_unsafe(from_manifest(store.manifest()), scoring)
        shown = ReportOptions(summarizer, reference_column, config_dirs, not no_report)
        finished = score_run(store, scoring, report=shown)
    if as_json:
        emit(to_json(finished))
    else:
        click.echo(finished.text, nl=False)
        if finished.pages_fault:
            note(f"the HTML report could not be written: {finished.pages_fault}")
    ctx.exit(EXIT_OK if finished.error is None else report(finished.error))


COMMANDS = [show, score]
