"""How errors and warnings look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from evalkit.cli.streams import note
from evalkit.core.errors import EvalkitError

if TYPE_CHECKING:
    from evalkit.plan.plan import RunPlan
    from evalkit.scoring.score import Options


def report(error: EvalkitError) -> int:
    """Print an error's two lines; returns its exit code."""
    note(f"{click.style('error:', fg='red', bold=True)} {error.message}")
    if error.hint:
        note(f"  {click.style('hint:', fg='yellow')} {error.hint}")
    return error.exit_code


def warn_unsafe(plan: RunPlan, scoring: Options) -> None:
    """Say on standard error, whatever else is quiet, that programs run without a sandbox."""
    from evalkit.report.notes import unsafe_notes

    for line in unsafe_notes(plan, scoring.unconfined()):
        note(line, fg="red", bold=True)
