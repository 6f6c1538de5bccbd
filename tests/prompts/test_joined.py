"""Columns of a second file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import DataError
from evalkit.prompts.builders import BUILDERS, Material

ROWS = [{"id": 1, "q": "a"}, {"id": 2, "q": "b"}]


def join(tmp_path: Path, others: list[dict[str, Any]]) -> Any:
    file = tmp_path / "others.jsonl"
    file.write_text("".join(json.dumps(other) + "\n" for other in others))
    material = Material(ROWS, {}, lambda: None, {}, lambda name: tmp_path / name)  # type: ignore[arg-type, return-value]
    return BUILDERS.get("joined")(material, "others.jsonl", "id", {"answer": "x.y[0]", "row": "n"})


def test_rows_get_the_columns_of_their_partners(tmp_path: Path) -> None:
    made = join(tmp_path, [{"id": 2, "x": {"y": ["z"]}, "n": 5}])
    assert made == [{"id": 1, "q": "a", "answer": None, "row": None}, {"id": 2, "q": "b", "answer": "z", "row": 5}]


@pytest.mark.parametrize("others", [[{"n": 1}], [{"id": 1, "n": 1}, {"id": 1, "n": 2}]])
def test_keys_are_needed_once(tmp_path: Path, others: list[dict[str, Any]]) -> None:
    with pytest.raises(DataError, match="row"):
        join(tmp_path, others)
