"""NeedleBench's configs: prompts equal to the published loaders', grids, several needles, what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.configs.benchmark import axes_of
from evalkit.configs.catalog import open_catalog
from evalkit.configs.merge import parse_override
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Benchmark, Row
from evalkit.data.files import DataRoot
from evalkit.data.sources import SAMPLES, open_root
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.task import Task
from evalkit.prompts.builders import BUILDERS
from evalkit.prompts.builders.base import Material
from evalkit.prompts.builders.needlebench import KINDS
from tests.chartokenizer import CharTokenizer
from tests.vectors import vectors

CONFIGS = {
    ("niah_v1_single", "English"): "needlebench_en_4k", ("niah_v1_single", "Chinese"): "needlebench_zh_4k",
    ("niah_v2_single", "English"): "needlebench_v2_en_4k", ("niah_v2_single", "Chinese"): "needlebench_v2_zh_4k",
    ("niah_base", "English"): "needlebench_base_en", ("niah_v1_multi_retrieval", "English"):
    "needlebench_retrieval_en_4k",
}  # fmt: skip
CELLS = [0, 10, 21, 31, 42, 52, 63, 73, 84, 94, 100]


def config(name: str, *settings: str) -> Benchmark:
    catalog = open_catalog()
    overrides = [parse_override(text)[1] for text in settings]
    return load_benchmark_config(catalog.files("dataset_configs")[name][0], catalog, overrides)


def task(name: str, *settings: str, root: DataRoot | None = None) -> Task:
    return Task(config(name, *settings), root or open_root("samples"), CharTokenizer)


def folder_of(line: dict[str, Any], tmp_path: Path) -> DataRoot:
    """A data root with the vector's haystack and needles."""
    place = tmp_path / "opencompass/NeedleBench"
    place.mkdir(parents=True, exist_ok=True)
    rows = {"needles.jsonl": line["inputs"]["needles_file"]}
    texts = [{"text": text} for text in line["inputs"]["haystack_lines"]]
    rows |= {name: texts for name in (*line["params"]["file_list"], "en_un_asr.jsonl")}
    for name, content in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (place / name).write_text(text, encoding="utf-8")
    return DataRoot(tmp_path)


def test_prompts_are_the_published_loaders(shared: Path, tmp_path: Path) -> None:
    """Every line of the vectors, through the configs' own builders and templates."""
    lines = vectors(shared, "niah_prompt")
    assert len(lines) == 22
    for number, line in enumerate(lines):
        given = line["params"]
        name = CONFIGS[line["config"].split()[0], given["language"]]
        (build,) = json.loads(json.dumps(config(name).resolved["data"]["build"]))
        settings = [f"data.lengths=[{given['length']}]", f"data.depths={given.get('depths', [given.get('depth')])}"]
        settings += [
            f"data.build.{build}.{key}={value}"
            for key, value in (("buffer", given["length_buffer"]), ("repeats", 2), ("short", "cut"))
        ]
        made = task(name, *settings, root=folder_of(line, tmp_path / str(number)))
        (subset,) = made.subsets
        sample = made.samples(subset)[given["counter"]]
        assert made.render(sample, "base").text == line["prompt"], name
        assert sample.gold == line["answer"]


GRIDS = {
    "4k": [1000, 2000, 3000, 4000], "8k": [5000, 6000, 7000, 8000],
    "32k": [9000, 13000, 17000, 21000, 25000, 29000, 31000, 32000],
    "128k": [16000, 32000, 48000, 64000, 80000, 96000, 112000, 128000],
    "200k": [16000, 48000, 80000, 112000, 128000, 144000, 176000, 200000], "256k": [32000, 128000, 256000],
    "1000k": [20000, 160000, 300000, 440000, 580000, 720000, 860000, 1000000],
}  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_grids(grid: str, language: str) -> None:
    dense = [int(100 * i / 19) for i in range(20)]
    for task_name in ("", "retrieval_", "reasoning_"):
        data = config(f"needlebench_{task_name}{language}_{grid}").resolved["data"]
        assert data["lengths"] == GRIDS[grid]
        assert data["depths"] == (dense if grid in ("4k", "8k") else CELLS)
    assert len(config(f"needlebench_{language}_{grid}").members) == len(GRIDS[grid]) * len(data["depths"])
    newer = config(f"needlebench_v2_{language}_{grid}").resolved["data"]
    assert newer["depths"] == list(range(0, 101, 10)) and newer["lengths"][-1] == GRIDS[grid][-1]


def test_any_grid_from_the_command_line() -> None:
    chosen = config("needlebench_en_200k", "data.lengths=[500, 700]", "data.depths=[0, 33.5]")
    assert [m.name for m in chosen.members] == ["L500D0", "L500D33.5", "L700D0", "L700D33.5"]
    older = config("needle_single_en_4k", "data.lengths=[500]", "data.depths=[50]")
    assert [m.name for m in older.members] == ["L500D50"] and axes_of(older.resolved) == {
        "length": [500],
        "depth": [50],
    }
    with pytest.raises(ConfigError, match="depths: 101 is impossible"):
        config("needlebench_en_4k", "data.depths=[0, 101]")
    with pytest.raises(ConfigError, match="lengths: 0 is impossible"):
        config("needlebench_en_4k", "data.lengths=[0]")
    with pytest.raises(ConfigError, match="the subsets are no lengths"):
        config("needlebench_atc_en", "data.lengths=[1000]")


def test_a_short_haystack_is_repeated_or_cut_and_said() -> None:
    grid = ("data.lengths=[9000]", "data.depths=[50]", "data.build.needle.repeats=1")
    repeated = task("needlebench_zh_4k", *grid)
    (sample,) = repeated.samples("L9000D50")
    assert len(sample.row["context"]) == 9000 - 200 and sample.row["short"]
    assert "it is repeated" in repeated.remarks["haystack"]
    cut = task("needlebench_zh_4k", *grid, "data.build.needle.short=cut")
    (sample,) = cut.samples("L9000D50")
    assert len(sample.row["context"]) < 9000 - 200
    assert "longer prompts are cut to it" in cut.remarks["haystack"]
    assert "char" in cut.remarks["tokenizer"]
    with pytest.raises(ConfigError, match="'stretch' is unknown"):
        task("needlebench_zh_4k", *grid, "data.build.needle.short=stretch").samples("L9000D50")
    enough = task("needlebench_zh_4k", "data.lengths=[1000]", "data.depths=[0]")
    enough.samples("L1000D0")
    assert "haystack" not in enough.remarks


def test_without_the_needles_file_the_configs_needle_is_hidden(tmp_path: Path) -> None:
    place = tmp_path / "opencompass/NeedleBench"
    place.mkdir(parents=True)
    place.joinpath("PaulGrahamEssays.jsonl").write_bytes(
        (SAMPLES / "opencompass/NeedleBench/PaulGrahamEssays.jsonl").read_bytes()
    )
    made = task("needlebench_en_4k", "data.lengths=[3000]", "data.depths=[42]", root=DataRoot(tmp_path))
    assert {s.row["keyword"] for s in made.samples("L3000D42")} == {"eat a sandwich and sit in Dolores Park"}
    assert "absent" in made.remarks["needles"]
    drawn = task("needlebench_en_4k", "data.lengths=[3000]", "data.depths=[42]")
    assert len({s.row["keyword"] for s in drawn.samples("L3000D42")}) > 3


def test_retrieval_hides_a_needle_at_each_depth() -> None:
    made = task("needlebench_retrieval_en_4k", "data.lengths=[9000]", "data.depths=[0, 50, 100]")
    samples = made.samples("L9000")
    assert len(samples) == 25
    for sample in samples:
        words, depths = (part.split("*") for part in sample.gold.split("#"))
        assert depths == ["0", "50", "100"] and len(set(words)) == 3
        places = [sample.row["context"].index(word) / len(sample.row["context"]) for word in words]
        assert places == pytest.approx([0, 0.5, 1], abs=0.03)
        assert sample.row["question"].count("________") == 3
    assert len({s.gold for s in samples}) > 3, "each repeat has an order of its own"
    with pytest.raises(DataError, match="23 different needles are needed, needles.jsonl has 22"):
        task("needlebench_retrieval_en_4k", f"data.depths={list(range(23))}").samples("L1000")


def test_reasoning_hides_all_facts_of_a_record() -> None:
    made = task("needlebench_reasoning_en_4k", "data.lengths=[9000]", "data.depths=[0, 42, 100]")
    records = json.loads((SAMPLES / "opencompass/NeedleBench/multi_needle_reasoning_en.json").read_text())
    for count in (2, 5):
        for depth in (0, 42, 100):
            for sample in made.samples(f"L9000D{depth}N{count}"):
                context = sample.row["context"]
                (record,) = [r for r in records if all(f"\n{d}\n" in context for d in r["derivations"])][:1]
                assert record["derivation_count"] == count and sample.gold == f"{record['answer']}*{record['answer']}"
                at = [context.index(d) / len(context) for d in record["derivations"]]
                wanted = [min(1.0, depth / 100 + i / 10) for i in range(count)]
                assert at == pytest.approx(wanted, abs=0.05)


def walk(sentences: list[str], start: str) -> list[str]:
    """From a person upwards, read out of the sentences alone."""
    parents = {}
    for sentence in sentences:
        text = sentence.rstrip(".")
        if "'s father is " in text or "'s mother is " in text:
            child, parent = text.split("'s ")[0], text.split(" is ")[1]
        elif " is a child of " in text:
            child, parent = text.split(" is a child of ")
        else:
            parent, child = text.split(" is the ")[0], text.split(" of ")[1]
        parents[child] = parent
    chain = [start]
    while chain[-1] in parents:
        chain.append(parents[chain[-1]])
    return chain


@pytest.mark.parametrize("kind", KINDS)
def test_the_ancestral_trace_can_be_solved_from_its_sentences(kind: str) -> None:
    build = BUILDERS.get("ancestral_trace")
    for count in (2, 16, 512):
        rows: list[Row] = list(build(Material([], {"count": count, "kind": kind}, CharTokenizer, {}), repeats=3))
        assert len({row["context"] for row in rows}) == 3
        for row in rows:
            youngest = next(s for s in _people(row) if len(walk(row["sentences"], s)) == count + 1)
            chain = walk(row["sentences"], youngest)
            answers = {"eldest": chain[-1], "ancestor": chain[count], "descendant": chain[0], "distance": str(count)}
            assert row["answer"] == answers[kind]
            assert f"'{chain[-1] if kind == 'descendant' else chain[0]}'" in row["question"]


def _people(row: Row) -> list[str]:
    names = {name for s in row["sentences"] for name in _names_in(s)}
    return sorted(names)


def _names_in(sentence: str) -> tuple[str, str]:
    words = sentence.rstrip(".").replace("'s", "").split()
    return " ".join(words[:2]), " ".join(words[-2:])


def test_kinship_in_a_haystack() -> None:
    made = task("needlebench_v2_reasoning_zh_4k", "data.lengths=[2000]", "data.depths=[0]")
    for sample in made.samples("L2000D0N3"):
        assert all(f"\n{s}\n" in sample.row["context"] for s in sample.row["sentences"])
        assert "\\boxed{}" in (made.render(sample, "base").text or "")


def test_cdme_hides_its_one_needle() -> None:
    made = task("cdme200k", "data.lengths=[2000]", "data.depths=[52]")
    sample = made.samples("L2000D52")[3]
    assert sample.row["needle"] == "小明最喜欢的实习的地点就是上海人工智能实验室。"
    prompt = made.render(sample, "base").text or ""
    assert prompt.endswith("请按照“小明最喜欢的实习地点就是________。”的格式回答。\n")
    assert "needles" not in made.remarks


def test_unknown_arguments_of_a_builder_are_refused() -> None:
    with pytest.raises(ConfigError, match="no argument 'bufer'"):
        made = task("needlebench_en_4k", "data.build.needle.bufer=3")
        made.samples(made.subsets[0])


def test_configs_that_make_rows_out_of_nothing_read_nothing() -> None:
    made = config("needlebench_atc_en")
    assert made.data.is_made and not config("needlebench_en_4k").data.is_made
    assert replace(made.data, file="x.jsonl").is_made is False
