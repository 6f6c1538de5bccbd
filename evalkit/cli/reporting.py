"""How errors and warnings look."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from evalkit.core.errors import EvalkitError

if TYPE_CHECKING:
    from evalkit.plan.plan import RunPlan
    from evalkit.scoring.score import Options


def report(error: EvalkitError) -> int:
    """Print an error's two lines, or its JSON; returns its exit code."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": error.message, "hint": error.hint, "exit_code": error.exit_code}))
    label = click.style("error:", fg="red", bold=True)
    click.echo(f"{label} {error.message}", err=True)
    if error.hint:
        click.echo(f"  {click.style('hint:', fg='yellow')} {error.hint}", err=True)
    return error.exit_code


def warn_unsafe(plan: RunPlan, scoring: Options) -> None:
    """Say on standard error, whatever else is quiet, that programs run without a sandbox."""
    from evalkit.report.notes import unsafe_notes

    for note in unsafe_notes(plan, scoring.unconfined()):
        click.secho(note, err=True, fg="red", bold=True)
