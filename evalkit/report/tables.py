"""The summary as txt, csv and markdown."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Sequence

from evalkit.core.jsontext import without_surrogates
from evalkit.report.table import ABSENT, HEAD, Line, Table, cell, foot

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""


def printable(text: str) -> str:
    """The text in one line, without characters that a terminal obeys; those are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if _is_control(c) else c for c in without_surrogates(text))


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith("C") or category in ("Zl", "Zp")


def _lines(text: str) -> str:
    """A text of several lines, each printable."""
    return "\n".join(map(printable, text.split("\n")))


def markdown_cell(text: str) -> str:
    """A cell of a markdown table."""
    return printable(text).replace("|", "\\|")


def _csv(text: str) -> str:
    """A cell of text in a csv file, which a spreadsheet does not execute."""
    return "'" + text if text.startswith(FORMULA) and text != ABSENT else text


def _texts(line: Line, decimals: int) -> list[str]:
    return [line.dataset, line.version, line.metric, line.mode, *(cell(s, decimals) for s in line.scores)]


def _grid(
    table: Table,
    style: str,
    decimals: int,
    extra: Sequence[Sequence[str]],
    extra_head: Sequence[str],
    clean: Callable[[str], str] = printable,
) -> str:
    from tabulate import tabulate

    rows = [_texts(line, decimals) for line in table.lines]
    if extra_head:
        rows = [row + list(more) for row, more in zip(rows, extra, strict=True)]
    head = [clean(text) for text in (*HEAD, *table.models, *extra_head)]
    rows = [[clean(text) for text in row] for row in rows]
    align = ["left"] * len(HEAD) + ["right"] * (len(head) - len(HEAD))
    return tabulate(rows, head, tablefmt=style, colalign=align if rows else None, disable_numparse=True)


def as_text(
    table: Table, decimals: int = 2, extra: Sequence[Sequence[str]] = (), extra_head: Sequence[str] = ()
) -> str:
    """The table for a terminal, its foot below."""
    parts = [printable(table.title)] if table.title else []
    parts += [_grid(table, "simple", decimals, extra, extra_head), *map(_lines, foot(table))]
    return "\n".join(parts) + "\n"


def as_markdown(
    table: Table, decimals: int = 2, extra: Sequence[Sequence[str]] = (), extra_head: Sequence[str] = ()
) -> str:
    """The table as GitHub markdown."""
    parts = [f"**{printable(table.title)}**\n"] if table.title else []
    parts.append(_grid(table, "github", decimals, extra, extra_head, markdown_cell))
    notes = [_lines(note) for note in foot(table)]
    parts += ["", *(f"- {note.removeprefix('* ')}" for note in notes)] if notes else []
    return "\n".join(parts) + "\n"


def as_csv(table: Table, extra: Sequence[Sequence[str]] = (), extra_head: Sequence[str] = ()) -> str:
    """The table with unrounded numbers; `n` and `flags` name every score that needs care; standard errors come last."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    errors = [f"stderr:{model}" for model in table.models]
    writer.writerow([*HEAD, *map(_csv, (*table.models, *extra_head)), "n", "flags", *errors])
    for number, line in enumerate(table.lines):
        values = ["" if s is None or s.value is None else repr(s.value) for s in line.scores]
        counts = [f"{s.n}/{s.n_expected}" for s in line.scores if s is not None]
        flags = [f"{m}: {s.flag}" for m, s in zip(table.models, line.scores, strict=True) if s is not None and s.flag]
        more = list(extra[number]) if extra_head else []
        head = [_csv(text) for text in (line.dataset, line.version, line.metric)]
        texts = " ".join(dict.fromkeys(counts)), _csv("; ".join(flags))
        stderrs = ["" if s is None or s.value is None or s.stderr is None else repr(s.stderr) for s in line.scores]
        writer.writerow([*head, line.mode, *values, *more, *texts, *stderrs])
    return out.getvalue()
