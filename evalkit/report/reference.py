"""Reference tables: rows of known scores in a csv, to be shown beside a run's or to be held against it.

The first column names the row, every other one is a model's, but for four that speak of the row:
`version` (of the benchmark's config), `n` (samples), `tolerance` (points) and `z` (standard errors).
A table whose first head is `model` or `model name` is the other way round, a line a model.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.configs.catalog import ConfigCatalog, builtin_folder
from evalkit.core.errors import ConfigError
from evalkit.core.records import Score
from evalkit.core.registry import did_you_mean

ENGINES = ("hf", "turbomind", "lmdeploy", "vllm", "recorded")
"""Words in front or at the end of a model's name that say what ran it."""
ABOUT_ROW = ("version", "n", "tolerance", "z")
"""Columns that are no model's."""
MODEL_HEADS = ("model", "model name")
"""Heads of a first column that names models."""


@dataclass(frozen=True)
class Entry:
    """One line of a reference table."""

    row: str
    values: Mapping[str, str]
    """Model column -> value as printed; absent where the cell is empty."""
    version: str = ""
    n: int | None = None
    tolerance: float | None = None
    """Points that a score may be off."""
    z: float | None = None
    """Standard errors that a score may be off."""


@dataclass(frozen=True)
class Reference:
    """A reference table as it stands in its file."""

    columns: tuple[str, ...]
    """Of models."""
    entries: tuple[Entry, ...]
    """A row that was run in two versions has two."""
    head: str = "row"
    """The head of the first column."""

    def by_row(self) -> dict[str, dict[str, str]]:
        """Row -> column -> value as printed, whatever the version."""
        found: dict[str, dict[str, str]] = {}
        for entry in self.entries:
            found.setdefault(entry.row, {}).update(entry.values)
        return found


def find_reference(name: str, catalog: ConfigCatalog) -> Path:
    """A table by path, or by name among those that come with summarizers; ConfigError with near matches."""
    if Path(name).is_file():
        return Path(name)
    folders = [folder / part for folder in catalog.extra for part in ("summarizers/reference", "reference", ".")]
    known: dict[str, Path] = {}
    for folder in (*folders, builtin_folder("summarizers") / "reference"):
        for file in sorted(folder.glob("*.csv")):
            known.setdefault(file.stem, file)
    if name.removesuffix(".csv") not in known:
        raise ConfigError(
            f"no reference table {name!r}", f"name a csv file, or one of ours; {did_you_mean(name, known)}"
        )
    return known[name.removesuffix(".csv")]


def read_table(file: Path) -> Reference:
    """The table in a csv file; ConfigError names the line that is wrong."""
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        head = next(reader, [])
        lines = [(reader.line_num, line) for line in reader if any(line)]
    if len(head) < 2:
        raise ConfigError(f"{file} is no reference table", "a csv with a head: row name, then a column a model")
    if head[0].casefold() in MODEL_HEADS:
        head, lines = ["row", *(line[0] for _, line in lines)], _turned(head, lines)
    columns = tuple(c for c in head[1:] if c not in ABOUT_ROW)
    entries = tuple(_entry(dict(zip(head[1:], line[1:], strict=False)), line[0], f"{file}:{at}") for at, line in lines)
    return Reference(columns, entries, head[0])


def _turned(head: Sequence[str], lines: Sequence[tuple[int, Sequence[str]]]) -> list[tuple[int, list[str]]]:
    """The lines of a table with a line a model as those of one with a column a model."""
    cells = [[*line, *[""] * (len(head) - len(line))] for _, line in lines]
    return [(1, [name, *(line[number] for line in cells)]) for number, name in enumerate(head) if number]


def _entry(cells: Mapping[str, str], row: str, place: str) -> Entry:
    about = {c: cells.get(c, "").strip() for c in ABOUT_ROW}
    numbers = {c: as_number(about[c]) for c in ("n", "tolerance", "z")}
    bad = [c for c, value in numbers.items() if about[c] and (value is None or value < 0)]
    if bad:
        raise ConfigError(f"{place}: {bad[0]} is {about[bad[0]]!r}", "a number that is not negative, or nothing")
    values = {c: text for c, text in cells.items() if c not in ABOUT_ROW and text.strip()}
    n = None if numbers["n"] is None else int(numbers["n"])
    return Entry(row, values, about["version"], n, numbers["tolerance"], numbers["z"])


def as_number(text: str) -> float | None:
    """A cell as a number, a percent sign aside; None where it holds none (`-`, `?`, `68.2*`)."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def column_of(model: str, columns: Sequence[str]) -> str:
    """The column that means a model: equal but for `-`, `_`, `.`, spaces, case, and the engine; empty if none does."""
    return next((c for c in columns if _plain_name(c) == _plain_name(model)), "")


def _plain_name(name: str) -> str:
    parts = name.casefold().replace("_", "-").replace(".", "-").replace(" ", "-").split("-")
    while len(parts) > 1 and parts[0] in ENGINES:
        parts = parts[1:]
    while len(parts) > 1 and parts[-1] in ENGINES:
        parts = parts[:-1]
    return "-".join(parts)


def named_column(column: str, columns: Sequence[str], where: str) -> str:
    """The column that an option asks for; ConfigError with near matches when there is none."""
    found = column if column in columns else column_of(column, columns)
    if column and not found:
        raise ConfigError(f"{where} has no reference column {column!r}", did_you_mean(column, columns))
    return found


def same_row(published: str, own: str) -> bool:
    """Whether a published row means one of ours: `GSM-8K (4-shot)` is `gsm8k`."""
    return published == own or _plain_row(published) == _plain_row(own)


def _plain_row(name: str) -> str:
    return re.sub(r"\(.*?\)|[\W_]", "", name.casefold())


def updated(table: Reference, scores: Mapping[str, Sequence[Score]], band: Mapping[str, float | None]) -> Reference:
    """The table with the values of these scores (column -> a score a row) in the place of what it had for them.

    A line keeps its place and its band, unless `band` gives one. Values of other columns stay: where
    the version or the number of samples is another one, the row gets a second line.
    """
    rows = {column: {s.row for s in of_column} for column, of_column in scores.items()}
    entries = [
        replace(e, values={c: v for c, v in e.values.items() if e.row not in rows.get(c, ())}) for e in table.entries
    ]
    for column, of_column in scores.items():
        for score in of_column:
            _put(entries, column, score, {k: v for k, v in band.items() if v is not None})
    columns = tuple(dict.fromkeys([*table.columns, *scores]))
    return replace(table, columns=columns, entries=tuple(e for e in entries if e.values))


def _put(entries: list[Entry], column: str, score: Score, band: Mapping[str, float]) -> None:
    """Write one value into its line, or into a new one below the row's others."""
    text = repr(round(score.value or 0.0, 6))
    same = [i for i, e in enumerate(entries) if e.row == score.row]
    fit = [i for i in same if (entries[i].version, entries[i].n) == (score.version, score.n)]
    fit += [i for i in same if not entries[i].values]
    old = entries[fit[0]] if fit else entries[same[-1]] if same else Entry(score.row, {})
    values = {**(old.values if fit else {}), column: text}
    tolerance, z = (band.get("tolerance"), band.get("z")) if band else (old.tolerance, old.z)
    new = replace(old, values=values, version=score.version, n=score.n, tolerance=tolerance, z=z)
    if fit:
        entries[fit[0]] = new
    else:
        entries.insert(same[-1] + 1 if same else len(entries), new)


def as_csv(table: Reference) -> str:
    """The table's file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    about = [c for c in ABOUT_ROW if any(getattr(e, c) not in (None, "") for e in table.entries)]
    writer.writerow([table.head, *about, *table.columns])
    for entry in table.entries:
        writer.writerow([entry.row, *(_cell(getattr(entry, c)) for c in about), *_values(entry, table.columns)])
    return out.getvalue()


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _values(entry: Entry, columns: Sequence[str]) -> Iterator[str]:
    return (entry.values.get(c, "") for c in columns)
