"""The summary as txt, csv and markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from evalkit.report.table import HEAD, Line, Table, cell, foot


def _texts(line: Line, decimals: int) -> list[str]:
    return [line.dataset, line.version, line.metric, line.mode, *(cell(s, decimals) for s in line.scores)]


def _grid(table: Table, style: str, decimals: int, extra: Sequence[Sequence[str]], extra_head: Sequence[str]) -> str:
    from tabulate import tabulate

    rows = [_texts(line, decimals) for line in table.lines]
    if extra_head:
        rows = [row + list(more) for row, more in zip(rows, extra, strict=True)]
    head = [*HEAD, *table.models, *extra_head]
    align = ["left"] * len(HEAD) + ["right"] * (len(head) - len(HEAD))
    return tabulate(rows, head, tablefmt=style, colalign=align if rows else None, disable_numparse=True)


def as_text(
    table: Table, decimals: int = 2, extra: Sequence[Sequence[str]] = (), extra_head: Sequence[str] = ()
) -> str:
    """The table for a terminal, its foot below."""
    parts = [table.title] if table.title else []
    parts += [_grid(table, "simple", decimals, extra, extra_head), *foot(table)]
    return "\n".join(parts) + "\n"


def as_markdown(
    table: Table, decimals: int = 2, extra: Sequence[Sequence[str]] = (), extra_head: Sequence[str] = ()
) -> str:
    """The table as GitHub markdown."""
    parts = [f"**{table.title}**\n"] if table.title else []
    parts.append(_grid(table, "github", decimals, extra, extra_head))
    notes = foot(table)
    parts += ["", *(f"- {note.removeprefix('* ')}" for note in notes)] if notes else []
    return "\n".join(parts) + "\n"


def as_csv(table: Table, extra: Sequence[Sequence[str]] = (), extra_head: Sequence[str] = ()) -> str:
    """The table with unrounded numbers; `n` and `flags` name every score that needs care."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, *table.models, *extra_head, "n", "flags"])
    for number, line in enumerate(table.lines):
        values = ["" if s is None or s.value is None else repr(s.value) for s in line.scores]
        counts = [f"{s.n}/{s.n_expected}" for s in line.scores if s is not None]
        flags = [f"{m}: {s.flag}" for m, s in zip(table.models, line.scores, strict=True) if s is not None and s.flag]
        more = list(extra[number]) if extra_head else []
        head = [line.dataset, line.version, line.metric, line.mode]
        writer.writerow([*head, *values, *more, " ".join(dict.fromkeys(counts)), "; ".join(flags)])
    return out.getvalue()
