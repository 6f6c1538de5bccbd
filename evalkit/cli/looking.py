"""`report` writes the HTML report of runs."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import check_summarizer, summary_options
from evalkit.cli.streams import emit


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


COMMANDS = [report]
