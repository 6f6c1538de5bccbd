"""Files of rows: where a data root keeps them, and how each kind is read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.errors import AbsentData, DataError
from evalkit.core.records import Row
from evalkit.core.registry import did_you_mean

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
SAMPLE_MARK = "SAMPLE_DATA"


@dataclass(frozen=True)
class SplitSource:
    """One file or hub split, with all templates filled."""

    path: str
    config: str
    split: str
    file: str = ""
    key: str = ""
    package: str = ""
    revision: str = ""
    newlines: str = "kept"
    """`text_mode`: as a file opened in text mode gives them."""

    def __str__(self) -> str:
        parts = [self.path or self.package]
        parts += [f"file {self.file}"] if self.file else []
        parts += [f"config {self.config}"] if self.config else []
        parts += [f"split {self.split}"] if not self.file else []
        return ", ".join(p for p in parts if p)


@dataclass(frozen=True)
class DataRoot:
    """Where local copies are looked for; `folder` None means the hub only."""

    folder: Path | None = None
    beside: Path | None = None
    """Folder of the config file, for a user's own `data.file`."""

    @property
    def is_sample(self) -> bool:
        """Whether these are the project's own sample rows, which are no benchmark's."""
        return self.folder is not None and (self.folder / SAMPLE_MARK).exists()

    def folders(self) -> list[Path]:
        """The folders looked in, in order."""
        return [f for f in (self.folder, self.beside) if f is not None]


def missing(source: SplitSource, root: DataRoot, why: str) -> AbsentData:
    """The one error for absent data."""
    looked = ", ".join(str(f / source.path / (source.file or source.config)) for f in root.folders())
    if root.folder is None:
        looked = "no data root (--data-root, EVALKIT_DATA)" + (f", {looked}" if looked else "")
    message = f"data not found: {source}; looked in {looked}" + (f" and at the hub ({why})" if why else "")
    get = "`run.py fetch NAME --data-root DIR` brings it" if source.path else "put the file there by hand"
    return AbsentData(message, f"{get}; `--data-root samples` runs small own samples")


def local_files(source: SplitSource, folder: Path) -> list[Path]:
    """The files of a split below a data root, in order; empty when there are none."""
    base = folder / source.path
    if source.file:
        file = base / source.file
        return [file] if file.is_file() else []
    for where in (base / source.config, base / "data" / source.config) if source.config else (base, base / "data"):
        for suffix in SUFFIXES:
            found = sorted(where.glob(f"{source.split}-*{suffix}")) or sorted(where.glob(f"{source.split}{suffix}"))
            if found:
                return found
    return []


def read_file(file: Path, key: str = "") -> list[Row]:
    """Rows of a parquet, jsonl, json, csv or tsv file, gzipped or not.

    Raises DataError, with file and line, for a file that cannot be read and for a row that does not fit.
    """
    name = file.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            from pyarrow import parquet

            with parquet.ParquetFile(file) as opened:  # read_table imports pandas, which takes longer than the rows
                rows: list[Row] = opened.read().to_pylist()
            return rows
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pyarrow's errors are OSError and ValueError
        raise DataError(f"cannot read {file}: {error}", DAMAGED) from error
    if name.endswith(".jsonl"):
        return _jsonl_rows(text, file)
    if name.endswith((".csv", ".tsv")):
        return _csv_rows(text, "\t" if name.endswith(".tsv") else ",", file)
    if name.endswith(".json"):
        return _json_rows(text, key, file)
    raise DataError(f"{file}: unknown kind of file", "use parquet, jsonl, json, csv or tsv")


DAMAGED = "the file is damaged: fetch it again, or correct it"


def _jsonl_rows(text: str, file: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(f"{file}:{number}: broken JSON: {reason}", DAMAGED) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{file}:{number}: row {len(rows)} is {_shown(row)}, not an object", 'a row is {"column": value, …}'
            )
        rows.append(row)
    return rows


def _csv_rows(text: str, delimiter: str, file: Path) -> list[Row]:
    """Rows under the names of the first line; every row must have a cell for each of them."""
    lines = io.StringIO(text, newline="")  # str.splitlines would also part rows at U+2028 and the like
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begun = 1
    rows: list[Row] = []
    header: list[str] = []
    try:
        for cells in reader:
            if cells and not header:
                header = cells
                twice = sorted({name for name in header if header.count(name) > 1})
                if twice:
                    raise DataError(f"{file}:{begun}: the column {twice[0]!r} stands twice", "rename one of the two")
            elif cells:
                if len(cells) != len(header):
                    raise DataError(
                        f"{file}:{begun}: row {len(rows)} has {len(cells)} cells, the header {len(header)}",
                        'a cell that holds the delimiter or a newline must stand in quotes ("…")',
                    )
                rows.append(dict(zip(header, cells, strict=True)))
            begun = reader.line_num + 1
    except csv.Error as error:
        hint = 'a cell that holds quotes must stand in quotes, each of its own doubled ("say ""a""")'
        if "field limit" in str(error):
            hint = f"cells hold at most {csv.field_size_limit()} characters: keep these rows as jsonl"
        raise DataError(f"{file}:{begun}: row {len(rows)} is broken: {error}", hint) from error
    return rows


def _json_rows(text: str, key: str, file: Path) -> list[Row]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not key and _is_lines(text):  # some publishers call a file of one object a line .json
            return _jsonl_rows(text, file)
        raise DataError(f"cannot read {file}: {error}", DAMAGED) from error
    if key:
        if not isinstance(value, dict) or key not in value:
            known = did_you_mean(key, value) if isinstance(value, dict) else "leave `data.key` out"
            raise DataError(f"{file}: no key {key!r} here", known)
        value = value[key]
    if not isinstance(value, list):
        raise DataError(f"{file}: no list of rows here", "name the place of the rows in `data.key`")
    for index, row in enumerate(value):
        if not isinstance(row, dict):
            raise DataError(f"{file}: row {index} is {_shown(row)}, not an object", 'a row is {"column": value, …}')
    return value


def _is_lines(text: str) -> bool:
    """Whether the first line is an object of its own."""
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "…"


def write_file(file: Path, rows: Sequence[Row], key: str = "") -> None:
    """Write rows in the format that the file's name says, so that `read_file` gives them back equal.

    The file is written aside and renamed. Raises DataError when the format cannot hold the rows (numbers in a csv,
    dates in JSON); nothing is left behind then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".evalkit-") as folder:
        aside = Path(folder) / file.name
        try:
            _write(aside, rows, key)
            back = read_file(aside, key)
        except (TypeError, ValueError, OSError, DataError) as error:  # pyarrow's errors are TypeError and ValueError
            reason = str(getattr(error, "message", error)).replace(str(aside), file.name)
            raise DataError(f"cannot write {file}: {reason}", OTHER_FORMAT) from error
        if not _equal(back, list(rows)):
            raise DataError(f"cannot write {file}: its format does not hold these rows", OTHER_FORMAT)
        aside.replace(file)


OTHER_FORMAT = "name a file of another format in `data.file`: jsonl holds text, numbers and lists, parquet all"


def _write(file: Path, rows: Sequence[Row], key: str) -> None:
    name = file.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), file)
        return
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif name.endswith((".csv", ".tsv")):
        lines = io.StringIO(newline="")
        names = list(rows[0]) if rows else []
        writer = csv.DictWriter(lines, names, delimiter="\t" if name.endswith(".tsv") else ",")
        writer.writeheader()
        writer.writerows(rows)
        text = lines.getvalue()
    elif name.endswith(".json"):
        text = json.dumps({key: list(rows)} if key else list(rows), ensure_ascii=False)
    else:
        raise DataError(f"{file}: unknown kind of file", "use parquet, jsonl, json, csv or tsv")
    raw = text.encode("utf-8")
    file.write_bytes(gzip.compress(raw, mtime=0) if file.suffix == ".gz" else raw)


def _equal(one: Any, other: Any) -> bool:
    """Equal values of equal types, NaN included; the order of columns counts, as templates see it."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def text_mode(value: Any) -> Any:
    """The value with its newlines as a file opened in text mode gives them: `\\r\\n` and `\\r` become `\\n`."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value
    if isinstance(value, Mapping):
        return {name: text_mode(item) for name, item in value.items()}
    return [text_mode(item) for item in value] if isinstance(value, list) else value
