"""`report` writes the HTML report of runs; `samples` shows samples on the terminal."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import check_summarizer, summary_options
from evalkit.cli.streams import emit
from evalkit.core.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.report.sample_text import Wanted
    from evalkit.report.samples import Judged
    from evalkit.results.scored import StoredRun


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write the pages to DIR.")
@click.option("--no-samples", is_flag=True, help="Leave out the pages of samples.")
@summary_options
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--config-dir", "config_dirs", multiple=True, metavar="DIR", help="Your own configs.")
@click.option("--json", "as_json", is_flag=True, help="The page's path as JSON.")
def report(
    runs: tuple[str, ...],
    out: Path | None,
    no_samples: bool,
    summarizer: str | None,
    reference_column: str,
    work_dir: str,
    config_dirs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the HTML report of one or several scored runs; it opens from the disk, without a server.

    Without --out the pages of one run go into its folder, those of several into a folder of the work dir.
    """
    from evalkit.configs.catalog import open_catalog
    from evalkit.report.html.build import write_pages
    from evalkit.report.summary import load_summarizer
    from evalkit.results.scored import open_scored
    from evalkit.results.store import open_run, safe

    check_summarizer(summarizer, reference_column, config_dirs)
    found = {store.folder.resolve(): store for store in (open_run(run, Path(work_dir)) for run in runs)}
    opened = [open_scored(store) for store in found.values()]
    folder = out or (opened[0].store.pages if len(opened) == 1 else None)
    folder = folder or Path(work_dir) / f"report_{safe('_'.join(run.store.name for run in opened))}"
    shown = load_summarizer(summarizer, open_catalog(config_dirs), reference_column) if summarizer else None
    page = write_pages(opened, folder, shown, samples=not no_samples)
    if as_json:
        emit({"page": str(page)})
    else:
        click.echo(f"open {page}")


@click.command()
@click.argument("run")
@click.option("--models", multiple=True, metavar="NAME…", help="Show these models only.")
@click.option(
    "--benchmark", "benchmarks", multiple=True, metavar="NAME…", help="Show these benchmarks only; globs too."
)
@click.option("--wrong", is_flag=True, help="Show samples that are not right.")
@click.option("--right", is_flag=True, help="Show samples that are right.")
@click.option("--unparsed", is_flag=True, help="Show outputs from which nothing was extracted.")
@click.option("--flagged", is_flag=True, help="Show samples without a verdict, with a fault, or cut.")
@click.option("--grep", default="", metavar="TEXT", help="Show samples with TEXT in prompt, output, answer or gold.")
@click.option("--id", "ids", multiple=True, metavar="ID…", help="Show these samples: SUBSET/NUMBER.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show at most N samples.")
@click.option("--full", is_flag=True, help="Unfold exemplars and cut no text.")
@click.option("--work-dir", default="outputs", show_default=True, metavar="DIR", help="The parent of runs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def samples(
    run: str,
    models: tuple[str, ...],
    benchmarks: tuple[str, ...],
    wrong: bool,
    right: bool,
    unparsed: bool,
    flagged: bool,
    grep: str,
    ids: tuple[str, ...],
    limit: int | None,
    full: bool,
    work_dir: str,
    as_json: bool,
) -> None:
    """Show the samples of a scored run: prompt, output, extraction, options, verdict.

    On a terminal they go through a pager.
    """
    from evalkit.report.sample_text import Wanted, as_record
    from evalkit.results.scored import open_scored
    from evalkit.results.store import open_run

    stored = open_scored(open_run(run, Path(work_dir)))
    wanted = Wanted(wrong, right, unparsed, flagged, grep, ids)
    found = islice(_chosen(stored, models, benchmarks, wanted), limit)
    if as_json:
        for model, one in found:
            emit(as_record(model, one))
        return
    first = next(found, None)
    if first is None:
        click.echo("no sample fits")
        return
    texts = _styled(chain([first], found), full)
    if sys.stdout.isatty():
        click.echo_via_pager(texts)
    else:
        for text in texts:
            click.echo(text, nl=False)


def _chosen(
    stored: StoredRun, models: tuple[str, ...], benchmarks: tuple[str, ...], wanted: Wanted
) -> Iterator[tuple[str, Judged]]:
    """(model, sample) of those that fit; ConfigError for names that the run does not have."""
    from evalkit.core.registry import did_you_mean
    from evalkit.report.samples import samples_of

    plan = stored.plan
    for what, names, known in (("model", models, plan.models), ("benchmark", benchmarks, plan.benchmarks)):
        for name in names:
            if not fnmatch.filter(known, name):
                raise ConfigError(f"the run has no {what} {name!r}", did_you_mean(name, known))
    for pair in plan.pairs:
        named = ((pair.model, models), (pair.benchmark, benchmarks))
        if all(not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs) for name, globs in named):
            for one in samples_of(stored.store, plan, pair):
                if wanted.fits(one):
                    yield pair.model, one


STYLES: dict[str, dict[str, Any]] = {
    "head": {"fg": "cyan", "bold": True},
    "role": {"fg": "green"},
    "note": {"dim": True},
    "right": {"fg": "green", "bold": True},
    "wrong": {"fg": "red", "bold": True},
}


def _styled(found: Iterable[tuple[str, Judged]], full: bool) -> Iterator[str]:
    from evalkit.report.sample_text import as_text

    for model, one in found:
        for kind, text in as_text(model, one, full):
            yield click.style(text, **STYLES.get(kind, {})) + "\n"


COMMANDS = [report, samples]
