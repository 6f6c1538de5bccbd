"""Rows with what a file of annotations says of each: which test items were found in crawled texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.core import template
from evalkit.core.errors import DataError
from evalkit.core.records import Row
from evalkit.prompts.builders.base import BUILDERS, Material

ANNOTATION = "annotation"


@BUILDERS.register("annotated")
def annotated(material: Material, file: str, key: str) -> list[Row]:
    """The rows, each with the column `annotation`: element 0 of its entry in the file, empty where it has none.

    `file` is a JSON object below the data root, item -> [kind, …] (liyucheng09/Contamination_Detector). `key` is a
    template of an item's name over the subset, the row's number `idx` and its columns. DataError when the file is
    absent or of another shape.
    """
    path = material.find(file)
    if str(path) not in material.cache:
        material.cache[str(path)] = _read(path)
    entries: Mapping[str, Any] = material.cache[str(path)]
    made: list[Row] = []
    for index, row in enumerate(material.rows):
        entry = entries.get(template.render(key, {**material.variables, **row, "idx": index}, "annotation key"))
        made.append({**row, ANNOTATION: _kind(entry, path) if entry is not None else ""})
    return made


def _read(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read annotations from {path}: {error}", "a JSON object: item -> [kind, …]") from error
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{path} holds no annotations", "a JSON object: item -> [kind, …]")
    return entries


def _kind(entry: Any, path: Path) -> str:
    kind = entry[0] if isinstance(entry, list) and entry else entry
    if not isinstance(kind, str):
        raise DataError(f"{path}: an entry is {entry!r:.80}", "item -> [kind, …], the kind a text")
    return kind
