"""`status`: how far a run is, also while it runs, from another terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from evalkit.cli.streams import emit


@click.command()
@click.argument("run", default="")
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--json", "as_json", is_flag=True, help="The standing as JSON.")
def status(run: str, work_dir: str, as_json: bool) -> None:
    """Show the progress of a run.

    What of RUN (default: the newest) is done, running and failed, and the time that is left.
    """
    from evalkit.results.store import open_run

    found = standing(open_run(run, Path(work_dir)))
    if as_json:
        emit(found)
    else:
        click.echo(_for_eyes(found))


def standing(store: Any) -> dict[str, Any]:
    """What is known of a run: its state, its parts, what failed, the seconds that are left."""
    from evalkit.results.store import COMPLETE

    manifest, progress = store.manifest(), store.progress()
    at_work = store.is_locked()
    state = "running" if at_work else str(manifest.get("status", ""))
    if state == "running" and not at_work:
        state = "broken off"
    left = progress.get("seconds_left") if at_work else None
    if left is not None:
        left = max(0.0, left - (time.time() - progress["written"]))
    return {
        "run": str(store.folder),
        "state": state,
        "parts": progress.get("standings", []),
        "failures": [] if state == COMPLETE else manifest.get("failures", []),
        "seconds_left": left,
        "seconds_since_word": time.time() - progress["written"] if at_work and progress else None,
    }


def _for_eyes(found: dict[str, Any]) -> str:
    from tabulate import tabulate

    from evalkit.plan.forecast import duration

    lines = [f"{found['run']}: {found['state']}"]
    if found["seconds_left"] is not None:
        lines[0] += f", about {duration(found['seconds_left'])} left"
    rows = [
        {
            "model": part["model"],
            "dataset": part["benchmark"],
            "samples": part["samples"],
            "done": part["done"],
            "running": part["running"],
            "to do": part["samples"] - part["done"] - part["running"],
        }
        for part in found["parts"]
    ]
    if rows:
        lines.append(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
    for failure in found["failures"]:
        where = f"{failure['model']} {failure['benchmark']} {failure['subset']} [{failure['start']}:{failure['stop']}]"
        lines.append(f"failed: {where}: {failure['cause']}")
    if found["state"] in ("broken off", "incomplete"):
        lines.append("the same command as before continues it")
    return "\n".join(lines)


COMMANDS = [status]
