"""`regress` holds a run against a reference table; `compare` sets two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.reporting import report
from evalkit.cli.streams import emit
from evalkit.core.errors import EXIT_OK, ConfigError, RunFailed

if TYPE_CHECKING:
    from evalkit.report.gate import Band, Check
    from evalkit.results.scored import StoredRun


@click.command()
@click.argument("run", default="")
@click.option("--reference", required=True, metavar="TABLE", help="A csv file, or the name of one that comes with us.")
@click.option("--reference-column", default="", metavar="NAME", help="The column; default: named as the model is.")
@click.option("--tolerance", type=click.FloatRange(0), metavar="POINTS", help="How far a row may be off (default 1).")
@click.option("--z", type=click.FloatRange(0), metavar="Z", help="The same in standard errors of the row's n.")
@click.option("--rows", multiple=True, metavar="ROW…", help="Only these rows of the table, by name or glob.")
@click.option("--models", multiple=True, metavar="NAME…", help="Only these models of the run.")
@click.option("--update", is_flag=True, help="Write the run's scores into TABLE instead.")
@click.option("--all-rows", is_flag=True, help="With --update: the rows of groups and subsets too.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also as JUnit XML.")
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs.")
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON.")
@click.pass_context
def regress(ctx: click.Context, run: str, **options: Any) -> None:
    """Check scores against a reference table.

    RUN is a run folder, by default the newest. The exit code is 1 when a score is off.
    """
    from evalkit.report.gate import Band
    from evalkit.results.scored import open_scored
    from evalkit.results.store import open_run

    stored = open_scored(open_run(run, Path(options["work_dir"])))
    models = _chosen_models(stored, options["models"])
    band = Band(options["tolerance"], options["z"])
    if options["update"]:
        updated = _update(stored, models, band, options)
        if options["as_json"]:
            emit({"ok": True, "updated": updated})
        else:
            click.echo(updated)
        ctx.exit(EXIT_OK)
    checks = _checks(stored, models, band, options)
    if options["junit"]:
        _write_junit(options["junit"], checks, options["reference"])
    ctx.exit(_told(checks, options["as_json"]))


def _chosen_models(stored: StoredRun, names: tuple[str, ...]) -> list[str]:
    from evalkit.configs.catalog import unknown

    bad = [n for n in names if n not in stored.plan.models]
    if bad:
        raise unknown("model of this run", bad, stored.plan.models)
    return [m for m in stored.plan.models if m in names or not names]


def _checks(stored: StoredRun, models: list[str], band: Band, options: dict[str, Any]) -> list[Check]:
    from evalkit.configs.catalog import open_catalog
    from evalkit.report.gate import check_run, choose_rows, columns_for
    from evalkit.report.reference import find_reference, read_table
    from evalkit.report.summary import bindings_of

    catalog = open_catalog(options["config_dirs"])
    file = find_reference(options["reference"], catalog)
    table = read_table(file)
    columns = columns_for(models, table, options["reference_column"], str(file))
    entries, kinds = choose_rows(table, options["rows"]), {m: stored.plan.models[m].kind for m in models}
    return check_run(stored.scores, columns, entries, band, stored.limited(), bindings_of(file, catalog), kinds)


def _update(stored: StoredRun, models: list[str], band: Band, options: dict[str, Any]) -> str:
    """Write the scores into the table; RunFailed when one of them is not whole."""
    from evalkit.report.gate import headlines, primary_scores
    from evalkit.report.reference import Reference, as_csv, column_of, read_table, updated
    from evalkit.results.store import write_file

    file, column = Path(options["reference"]), options["reference_column"]
    if options["rows"] or (column and len(models) > 1):
        raise ConfigError("--update writes all rows, each model into its column", "no --rows; one of --models a column")
    if file.suffix != ".csv":
        raise ConfigError(f"{file} is no csv file", "--update writes to a path: --reference PATH.csv")
    table = read_table(file) if file.exists() else Reference((), ())
    rows_of = primary_scores if options["all_rows"] else headlines
    scores = {column or column_of(m, table.columns) or m: rows_of(stored.scores, m) for m in models}
    gaps = [f"{s.model} {s.row}" for of_model in scores.values() for s in of_model if s.has_gap]
    if gaps:
        raise RunFailed(
            f"no reference is made of an incomplete run: {', '.join(gaps)}", f"run.py score {stored.store.folder}"
        )
    write_file(file, as_csv(updated(table, scores, {"tolerance": band.tolerance, "z": band.z})))
    return f"{file}: {sum(map(len, scores.values()))} values of {', '.join(scores)}"


def _write_junit(file: Path, checks: list[Check], name: str) -> None:
    from evalkit.report.gate import as_junit
    from evalkit.results.store import write_file

    write_file(file, as_junit(checks, f"evalkit regress {name}"))


def _told(checks: list[Check], as_json: bool) -> int:
    """Print the checks; the exit code."""
    from dataclasses import asdict

    from evalkit.report.gate import as_text

    bad = [c for c in checks if not c.ok]
    if as_json:
        lines = [{**asdict(c), "diff": c.diff, "ok": c.ok} for c in checks]
        emit({"ok": not bad, "checks": lines})
    else:
        click.echo(as_text(checks), nl=False)
    if not bad:
        return EXIT_OK
    named = ", ".join(f"{c.row} ({c.model}: {c.verdict})" for c in bad)
    what = f"{len(bad)} of {len(checks)} checks failed: {named}"
    error = RunFailed(what, "the table says why; `run.py compare` with an older run shows the samples")
    return error.exit_code if as_json else report(error)


@click.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--models", multiple=True, metavar="NAME_OF_A NAME_OF_B", help="One model of each run.")
@click.option(
    "--flips", type=click.IntRange(0), default=10, show_default=True, metavar="N", help="Samples shown a row."
)
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every sample that flipped.")
def compare(run_a: str, run_b: str, models: tuple[str, ...], flips: int, work_dir: str, as_json: bool) -> None:
    """Compare two runs, sample by sample.

    Prints the differences of RUN_B from RUN_A as markdown.

    The two may be one run, with --models for two models of it.
    """
    from evalkit.report.compare import as_markdown
    from evalkit.report.compare import compare as compared
    from evalkit.results.scored import open_scored
    from evalkit.results.store import open_run

    a, b = (open_scored(open_run(run, Path(work_dir))) for run in (run_a, run_b))
    found = compared(a, b, models)
    if as_json:
        emit(found)
    else:
        click.echo("\n".join(as_markdown(one, flips) for one in found), nl=False)


COMMANDS = [regress, compare]
