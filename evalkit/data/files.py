"""Files of rows: where a data root keeps them, and how each kind is read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.errors import DataError
from evalkit.core.records import Row

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".jsonl.gz")
SAMPLE_MARK = "SAMPLE_DATA"


@dataclass(frozen=True)
class Wanted:
    """One file or hub split, with all templates filled."""

    path: str
    config: str
    split: str
    file: str = ""
    key: str = ""
    package: str = ""
    revision: str = ""

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


def missing(want: Wanted, root: DataRoot, why: str) -> DataError:
    """The one error for absent data."""
    looked = ", ".join(str(f / want.path / (want.file or want.config)) for f in root.folders())
    if root.folder is None:
        looked = "no data root (--data-root, EVALKIT_DATA)" + (f", {looked}" if looked else "")
    message = f"data not found: {want}; looked in {looked}" + (f" and at the hub ({why})" if why else "")
    get = "`run.py fetch NAME --data-root DIR` brings it" if want.path else "put the file there by hand"
    return DataError(message, f"{get}; `--data-root samples` runs small own samples")


def local_files(want: Wanted, folder: Path) -> list[Path]:
    """The files of a split below a data root, in order; empty when there are none."""
    base = folder / want.path
    if want.file:
        file = base / want.file
        return [file] if file.is_file() else []
    for where in (base / want.config, base / "data" / want.config) if want.config else (base, base / "data"):
        for suffix in SUFFIXES:
            found = sorted(where.glob(f"{want.split}-*{suffix}")) or sorted(where.glob(f"{want.split}{suffix}"))
            if found:
                return found
    return []


def read_file(file: Path, key: str = "") -> list[Row]:
    """Rows of a parquet, jsonl, json, csv or tsv file, gzipped or not."""
    name = file.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            from pyarrow import parquet

            with parquet.ParquetFile(file) as opened:  # read_table imports pandas, which takes longer than the rows
                rows: list[Row] = opened.read().to_pylist()
            return rows
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
        return _parse(name, text, key, file)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}", "the file is damaged: fetch it again") from error


def _parse(name: str, text: str, key: str, file: Path) -> list[Row]:
    if name.endswith(".jsonl"):
        return _lines(text)
    if name.endswith((".csv", ".tsv")):
        lines = io.StringIO(text, newline="")  # str.splitlines would also part rows at U+2028 and the like
        return list(csv.DictReader(lines, delimiter="\t" if name.endswith("tsv") else ","))
    if name.endswith(".json"):
        try:
            value: Any = json.loads(text)
        except json.JSONDecodeError:
            if key:
                raise
            return _lines(text)  # some publishers call a file of one object a line .json
        return _as_rows(value[key] if key else value, file)
    raise DataError(f"{file}: unknown kind of file", "use parquet, jsonl, json, csv or tsv")


def _lines(text: str) -> list[Row]:
    """One JSON object a line."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _as_rows(value: Any, file: Path) -> list[Row]:
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        return value
    raise DataError(f"{file}: no list of rows here", "name the place of the rows in `data.key`")
