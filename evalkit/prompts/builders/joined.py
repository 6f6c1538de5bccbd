"""Rows with columns of a second file, such as reference answers that are kept apart from the questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.core import template
from evalkit.core.errors import DataError
from evalkit.core.records import Row
from evalkit.data.files import read_file
from evalkit.prompts.builders.base import BUILDERS, Material


@BUILDERS.register("joined")
def joined(material: Material, file: str, key: str, columns: Mapping[str, str]) -> list[Row]:
    """The rows, each with `columns`: name -> an expression over the row of `file` that has the same `key`.

    A row without a partner gets null. `file` is below the data root. DataError when it is absent, lacks the key or has
    it twice.
    """
    path = material.find(file)
    if str(path) not in material.cache:
        material.cache[str(path)] = read_file(path)
    partners: dict[Any, Mapping[str, Any]] = {}
    for number, other in enumerate(material.cache[str(path)]):
        if key not in other or other[key] in partners:
            what = "has no" if key not in other else "repeats the"
            raise DataError(f"{path}, row {number}: it {what} {key!r}", "each row of the joined file needs its own key")
        partners[other[key]] = other
    made: list[Row] = []
    for row in material.rows:
        other = partners.get(row.get(key))
        found = {n: template.evaluate(e, other, f"column {n!r}") if other else None for n, e in columns.items()}
        made.append({**row, **found})
    return made
