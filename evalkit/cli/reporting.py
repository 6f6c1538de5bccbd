"""How an error looks."""

from __future__ import annotations

import json
import sys

import click

from evalkit.errors import EvalkitError


def report(error: EvalkitError) -> int:
    """Print an error's two lines, or its JSON; returns its exit code."""
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": error.message, "hint": error.hint, "exit_code": error.exit_code}))
    label = click.style("error:", fg="red", bold=True)
    click.echo(f"{label} {error.message}", err=True)
    if error.hint:
        click.echo(f"  {click.style('hint:', fg='yellow')} {error.hint}", err=True)
    return error.exit_code
