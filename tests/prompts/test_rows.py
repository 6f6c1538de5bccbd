"""Every row is checked before a run, not only the first one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from evalkit.core.errors import EvalkitError

CONFIG = "mode: gen\nmetric: accuracy\ngold: answer\ndata: {file: mine.jsonl}\n"
GOOD: dict[str, Any] = {"q": "one", "choices": ["a", "b"], "inner": {"x": 1}, "n": 2, "answer": "1"}

FAULTS = [
    ("prompt: '{{ q }}'", {**GOOD, "q": ...}, "'q'"),
    ("prompt: [{user: '{{ n }}'}, {assistant: '{{ q }}'}]", {**GOOD, "q": ...}, "'q'"),
    ("prompt: '{{ choices[1] }}'", {**GOOD, "choices": ["a"]}, "choices"),
    ("prompt: '{{ inner.x }}'", {**GOOD, "inner": {}}, "'x'"),
    ("prompt: '{{ n // 1 }}'", {**GOOD, "n": "two"}, "prompt"),
    ("prompt: '{% for c in choices %}{{ c }}{% endfor %}'", {**GOOD, "choices": 3}, "prompt"),
    ("prompt: 'x'\nfields: {q: 'choices[1]', answer: answer}", {**GOOD, "choices": ["a"]}, "field 'q'"),
    ("prompt: '{{ q }}'", {**GOOD, "answer": ...}, "answer"),
    ("prompt: '{{ q }}'\nwhere: n > 1", {**GOOD, "n": "x"}, "where"),
]


@pytest.mark.parametrize(("keys", "odd", "names"), FAULTS)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, keys: str, odd: dict[str, Any], names: str) -> None:
    (tmp_path / "mine_gen.yaml").write_text(f"{CONFIG}{keys}\n", encoding="utf-8")
    rows = [GOOD, GOOD, {k: v for k, v in odd.items() if v is not ...}]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(EvalkitError, match="row 2") as caught:
        load_benchmark("mine_gen", config_dirs=[str(tmp_path)]).task.check()
    message = caught.value.message
    assert names in message and "mine_gen" in message and str(file) in message and caught.value.hint
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]), encoding="utf-8")
    load_benchmark("mine_gen", config_dirs=[str(tmp_path)]).task.check()


def test_a_broken_file_is_named_with_its_benchmark(tmp_path: Path) -> None:
    (tmp_path / "mine_gen.yaml").write_text(f"{CONFIG}prompt: '{{{{ q }}}}'\n", encoding="utf-8")
    (tmp_path / "mine.jsonl").write_text(json.dumps(GOOD) + "\n7\n", encoding="utf-8")
    with pytest.raises(EvalkitError, match=r"mine_gen \[mine\]: .*mine\.jsonl:2: row 1 is 7"):
        load_benchmark("mine_gen", config_dirs=[str(tmp_path)]).task.check()
