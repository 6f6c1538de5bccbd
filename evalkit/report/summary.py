"""Summarizers: which rows a table has, the published numbers beside them, and the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.configs import schema
from evalkit.configs.catalog import ConfigCatalog, only_file, unknown
from evalkit.configs.merge import load_merged
from evalkit.core.config_records import SummarizerFile
from evalkit.core.errors import ConfigError
from evalkit.report.bindings import Binding, bindings_from, notes_of
from evalkit.report.reference import as_number, column_of, named_column, read_table
from evalkit.report.table import ABSENT, Line, Table


@dataclass(frozen=True)
class Summarizer:
    """A resolved summarizer config."""

    name: str
    title: str
    rows: tuple[str, ...]
    reference: Path | None
    decimals: int = 2
    notes: str = ""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Published row -> the row that takes its place where it cannot be scored."""
    column: str = ""
    """The reference column that every model is compared with; empty: the one named as the model is."""
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    """Published row -> which of ours it is, where it has another name or its config is told."""
    all_columns: bool = False
    """Show every column of the reference, not only those of the models."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What stands under the table: the summarizer's notes, and where each published row comes from."""
        return (*filter(None, [self.notes]), *notes_of(self.bindings))


def load_summarizer(name: str, catalog: ConfigCatalog, column: str = "") -> Summarizer:
    """The summarizer called `name`, compared with one reference column; ConfigError with near matches."""
    files = catalog.files("summarizers")
    if name not in files:
        raise unknown("summarizer", [name], files)
    document = load_merged(only_file(name, files[name]), catalog, "summarizers")
    schema.check(document, SummarizerFile)
    data = document.data
    reference = document.file.parent / data["reference"] if "reference" in data else None
    if reference is not None and not reference.is_file():
        raise ConfigError(
            f"{document.place(('reference',))}: {reference} does not exist", "a csv beside the summarizer"
        )
    columns = read_reference(reference)[0] if reference else ()
    found = named_column(column, columns, name)
    rows = [entry if isinstance(entry, dict) else {entry: ""} for entry in data.get("rows", ())]
    return Summarizer(
        name,
        data.get("title", name),
        tuple(row for entry in rows for row in entry),
        reference,
        data.get("decimals", 2),
        data.get("notes", ""),
        {row: own for entry in rows for row, own in entry.items() if own and isinstance(own, str)},
        found,
        bindings_from(rows),
        data.get("columns") == "all",
    )


def bindings_of(file: Path, catalog: ConfigCatalog) -> Mapping[str, Binding]:
    """The bindings of a reference table's rows: those of the summarizer that has its name and refers to it."""
    if file.stem not in catalog.files("summarizers"):
        return {}
    summarizer = load_summarizer(file.stem, catalog)
    same = summarizer.reference is not None and summarizer.reference.resolve() == file.resolve()
    return summarizer.bindings if same else {}


def read_reference(file: Path) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, str]]]:
    """(column names, row -> column -> value as printed) of a reference table."""
    table = read_table(file)
    return table.columns, table.by_row()


def reference_columns(
    table: Table, summarizer: Summarizer, *, exact: bool = False
) -> tuple[list[str], list[list[str]]]:
    """(heads, cells) beside the table's lines: published values, then each model's score minus its value.

    A model is compared with the column that the summarizer fixes, else with the one that is named as
    the model is; where no model has one, all columns are shown and no differences. A summarizer may ask
    for all columns. `exact` leaves differences unrounded and unknown cells empty, for machines.
    """
    if summarizer.reference is None:
        return [], []
    columns, published = read_reference(summarizer.reference)
    own = {m: summarizer.column or column_of(m, columns) for m in table.models}
    compared = [(number, m) for number, m in enumerate(table.models) if own[m]]
    shown = list(dict.fromkeys(own[m] for _, m in compared))
    shown = list(columns) if summarizer.all_columns or not shown else shown
    absent, decimals = ("", None) if exact else (ABSENT, summarizer.decimals)
    cells = []
    for line in table.lines:
        values = published.get(line.dataset, {})
        gaps = [_gap(line, number, values.get(own[m], ""), decimals) or absent for number, m in compared]
        cells.append([values.get(c) or absent for c in shown] + gaps)
    gap_heads = [f"diff:{m}" if len(table.models) > 1 else "diff" for _, m in compared]
    return [f"ref:{c}" for c in shown] + gap_heads, cells


def _gap(line: Line, number: int, published: str, decimals: int | None) -> str:
    """Score minus published value; empty when one is missing, or when the line is another row's."""
    score = line.scores[number]
    reference = as_number(published)
    if reference is None or score is None or score.value is None or line.stands_in:
        return ""
    gap = score.value - reference
    return repr(round(gap, 10)) if decimals is None else f"{round(gap, decimals) + 0.0:+.{decimals}f}"
