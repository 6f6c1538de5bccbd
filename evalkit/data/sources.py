"""Reads rows: from the data root, from an installed package, or from the hub, in that order.

A data root holds copies in the hub's own layout, `<org>/<name>/<config>/<split>-*.parquet`, or
the publisher's original files. Reading these directly takes milliseconds where
`datasets.load_dataset` takes 0.2 s a config.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evalkit.core.errors import DataError
from evalkit.core.packages import package_path
from evalkit.core.records import DataSpec, Row
from evalkit.data.files import DataRoot, SplitSource, local_files, missing, read_file, text_mode
from evalkit.data.hub import download, load_from_hub

TEXT_MODE = "text_mode"
SAMPLES = Path(__file__).resolve().parents[1] / "builtin" / "samples"


def open_root(name: str | Path | None) -> DataRoot:
    """The data root called `name`; `samples` is the one shipped with evalkit."""
    if name is None:
        return DataRoot()
    folder = SAMPLES if str(name) == "samples" else Path(name).expanduser()
    if not os.path.isdir(folder):  # false, too, for a path that is too long or leads in a circle
        raise DataError(f"the data root {folder} is not a folder", "give --data-root DIR or set EVALKIT_DATA")
    return DataRoot(folder.resolve())


def split_source(spec: DataSpec, config: str, split: str, file: str) -> SplitSource:
    """The filled-in request for one split."""
    return SplitSource(spec.path, config, split, file, spec.key, spec.package, spec.revision, spec.newlines)


def load_rows(source: SplitSource, root: DataRoot) -> list[Row]:
    """All rows of one split, with the newlines that the source asks for.

    Raises DataError, which tells where they were looked for and how to fetch them, or which row does not fit.
    """
    rows = _load(source, root)
    return [text_mode(row) for row in rows] if source.newlines == TEXT_MODE else rows


def _load(source: SplitSource, root: DataRoot) -> list[Row]:
    files = rows_files(source, root)
    if files:
        return [row for file in files for row in read_file(file, source.key)]
    if not source.path:
        raise missing(source, root, "")
    return load_from_hub(source, root)


def rows_files(source: SplitSource, root: DataRoot) -> list[Path]:
    """The local files that hold a split: of the data root, beside the config, or of a package; none: the hub."""
    for folder in root.folders():
        files = local_files(source, folder)
        if files:
            return files
    packaged = package_path(source.package)
    return [packaged] if packaged is not None else []


def read_exemplar_file(name: str, root: DataRoot) -> Path:
    """Path of an exemplar file below the data root; DataError when it is absent."""
    return find_file(name, root, "exemplar file", "`run.py fetch NAME --data-root DIR` brings it")


def find_file(name: str, root: DataRoot, what: str, hint: str) -> Path:
    """A file below the data root, or with an absolute path; DataError, with `what` it is and the hint, when absent."""
    for folder in root.folders():
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(str(f / name) for f in root.folders()) or "no data root is given"
    if Path(name).is_absolute() and Path(name).is_file():
        return Path(name)
    raise DataError(f"{what} {name} not found ({looked})", hint)


def find_beside(path: str, name: str, root: DataRoot) -> Path | None:
    """Another file of the data set `path`, from the data root or the hub; None when neither has it."""
    source = SplitSource(path, "", "", name)
    for folder in root.folders():
        if found := local_files(source, folder):
            return found[0]
    try:
        return download(source, root) if path else None
    except DataError:
        return None


def cut(rows: Sequence[Row], bounds: tuple[int | None, int | None] | None) -> Sequence[Row]:
    """The rows of a file that belong to the scored split."""
    return rows if bounds is None else rows[slice(*bounds)]
