"""Summarizers: which rows a table has, and the published numbers beside them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalkit.configs import schema
from evalkit.configs.library import Library, only_file, unknown
from evalkit.configs.merge import load_merged
from evalkit.errors import ConfigError
from evalkit.table import ABSENT, Table


@dataclass(frozen=True)
class Summarizer:
    """A resolved summarizer config."""

    name: str
    title: str
    rows: tuple[str, ...]
    reference: Path | None
    decimals: int = 2
    notes: str = ""


def load_summarizer(name: str, library: Library) -> Summarizer:
    """The summarizer called `name`; ConfigError with near matches."""
    files = library.files("summarizers")
    if name not in files:
        raise unknown("summarizer", [name], files)
    document = load_merged(only_file(name, files[name]), library, "summarizers")
    schema.check(document, schema.SUMMARIZER)
    data = document.data
    reference = document.file.parent / data["reference"] if "reference" in data else None
    if reference is not None and not reference.is_file():
        raise ConfigError(
            f"{document.place(('reference',))}: {reference} does not exist", "a csv beside the summarizer"
        )
    return Summarizer(
        name,
        data.get("title", name),
        tuple(data.get("rows", ())),
        reference,
        data.get("decimals", 2),
        data.get("notes", ""),
    )


def read_reference(file: Path) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, str]]]:
    """(column names, row -> column -> value as printed) of a reference table."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        head = next(reader)
        rows = {line[0]: dict(zip(head[1:], line[1:], strict=False)) for line in reader if line}
    return tuple(head[1:]), rows


def reference_columns(table: Table, summarizer: Summarizer) -> tuple[list[str], list[list[str]]]:
    """(heads, cells) of the published columns beside the table's lines; none without a reference."""
    if summarizer.reference is None:
        return [], []
    columns, rows = read_reference(summarizer.reference)
    cells = [[rows.get(line.dataset, {}).get(c, ABSENT) for c in columns] for line in table.lines]
    return [f"ref:{c}" for c in columns], cells
