"""Smaller commands: `make-tiny`, `fetch`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from evalkit.cli.streams import emit
from evalkit.core.errors import EXIT_FAILED, EXIT_OK


@click.command("make-tiny")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Seed of the weights.")
@click.option("--chat", is_flag=True, help="With a chat template.")
def make_tiny(directory: Path, seed: int, chat: bool) -> None:
    """Write a tiny random Llama to try things with."""
    from evalkit.engines.hf.tiny import make_tiny as make

    make(directory, seed=seed, chat=chat)
    click.echo(f"{directory}: a random {'chat' if chat else 'base'} model (seed {seed}); its scores are chance")


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--data-root", required=True, envvar="EVALKIT_DATA", metavar="DIR", help="Where to put the data.")
@click.option("--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs.")
def fetch(names: tuple[str, ...], data_root: str, config_dirs: tuple[str, ...]) -> None:
    """Download data and exemplars to the data root."""
    from evalkit.data.fetch import fetch_benchmarks

    for line in fetch_benchmarks(names, Path(data_root), config_dirs):
        click.echo(line)


@click.command()
@click.option("--data-root", envvar="EVALKIT_DATA", metavar="DIR", help="The data root to check.")
@click.option("--model", metavar="NAME|DIR", help="Load this model and say which path it takes, and why.")
@click.option("--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def doctor(
    ctx: click.Context, data_root: str | None, model: str | None, config_dirs: tuple[str, ...], as_json: bool
) -> None:
    """Check what works on this machine, and how to fix the rest."""
    from evalkit.doctor import examine, examine_model

    findings = examine_model(model, config_dirs) if model else examine(data_root)
    if as_json:
        emit([f.__dict__ for f in findings])
    else:
        for finding in findings:
            _print(finding)
    ctx.exit(EXIT_OK if all(f.ok or not f.needed for f in findings) else EXIT_FAILED)


def _print(finding: Any) -> None:
    mark = (
        click.style("ok  ", fg="green")
        if finding.ok
        else click.style("MISS" if finding.needed else "--  ", fg="yellow")
    )
    click.echo(f"{mark} {finding.what.ljust(18)} {finding.found}")
    if not finding.ok and finding.fix:
        click.echo(f"     {' ' * 18} {finding.fix}")


COMMANDS = [make_tiny, fetch, doctor]
