"""The demo benchmarks' rows, as parquet files in the hub's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.embedded import arithmetic, facts, functions, retrieval

ITEMS = 200
FUNCTIONS = 160
HAYSTACK = 40
REPOSITORY = "evalkit/demo"


def rows() -> dict[str, Sequence[Mapping[str, Any]]]:
    """config -> rows of its test split."""
    return {
        "choice": facts.choice_items(ITEMS),
        "cloze": facts.cloze_items(ITEMS),
        "arithmetic": arithmetic.arithmetic_items(ITEMS),
        "code": functions.function_items(FUNCTIONS),
        "needle": retrieval.haystack(HAYSTACK),
    }


def write_items(root: Path) -> list[Path]:
    """Write every config's test split below the data root; returns the files."""
    import pyarrow
    from pyarrow import parquet

    files = []
    for config, found in rows().items():
        file = root / REPOSITORY / config / "test-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(list(found)), file, compression="zstd")
        files.append(file)
    return files
