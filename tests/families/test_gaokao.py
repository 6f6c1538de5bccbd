"""GAOKAO-Bench (protocol sheet: gaokao_bench): prompts of all subsets, types of questions, recorded outputs."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import BenchmarkHandle, load_benchmark
from evalkit.core.errors import ConfigError
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.score import SubsetResult
from tests.golden import check_golden, golden_lines
from tests.vectors import vectors

BASE, CHAT = "GaokaoBench_no_subjective_gen_d21e37", "GaokaoBench_no_subjective_gen_4c31db"
CONFIGS = (BASE, CHAT)
RECORDED = "gpt4_0314"
POINTS = 9702
SAMPLES = {
    "2010-2022_Math_II_MCQs": 4,
    "2010-2022_Physics_MCQs": 4,
    "2010-2022_Geography_MCQs": 4,
    "2012-2022_English_Cloze_Test": 2,
}
NO_ANSWER = {
    "2010-2022_Chinese_Lang_and_Usage_MCQs": 1,
    "2010-2022_English_Reading_Comp": 0,
    "2010-2022_Math_II_MCQs": 10,
    "2010-2022_Physics_MCQs": 5,
}
"""Recorded outputs that name no option, such as "题目可能有误": the authors' answer is empty, and so is ours."""
ROW = re.compile(r"^\| \d+ \| (\S+) \| (\w+) \| (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)
TEMPLATE = re.compile(r"^For (`20.+`):\n```\n(.+)\n```$", re.MULTILINE)


def subset_of(name: str) -> str:
    return name.removeprefix("GaokaoBench_")


def type_of(handle: BenchmarkHandle, subset: str) -> str:
    return next(str(m.variables["type"]) for m in handle.benchmark.members if m.name == subset)


def sheet(shared: Path) -> str:
    return (shared / "protocols" / "gaokao_bench.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("config", CONFIGS)
def test_prompts_equal_the_reference(shared: Path, config: str) -> None:
    assert check_golden(load_benchmark(config, shared / "data"), golden_lines(shared, config), subset_of) == 12


def test_prompts_of_all_subsets_equal_the_sheet(shared: Path) -> None:
    templates = {
        name: template.replace("⏎", "\n")
        for names, template in TEMPLATE.findall(sheet(shared))
        for name in re.findall(r"`([^`]+)`", names)
    }
    plain, chat = load_benchmark(BASE, shared / "data"), load_benchmark(CHAT, shared / "data")
    for subset in plain.subsets:
        sample = plain.samples(subset)[-1]
        expected = templates[subset].replace("{question}", sample.row["question"])
        assert plain.render(sample, "base") == expected
        assert plain.render(sample, "chat") == [{"role": "user", "content": expected}]
        assert chat.render(sample, "chat") == [{"role": "user", "content": expected + "\n"}]
    assert len(plain.subsets) == 14


def test_types_counts_and_weights_equal_the_sheet(shared: Path) -> None:
    handle = load_benchmark(CHAT, shared / "data")
    listed = {name: tuple(rest) for name, *rest in ROW.findall(sheet(shared))}
    found = {}
    for member in handle.benchmark.members:
        samples = handle.samples(member.name)
        letters = sum(len(s.gold) for s in samples)
        numbers = (len(samples), letters, member.variables["points"])
        found[member.name] = (member.variables["type"], *map(str, numbers))
    assert found == listed
    assert sum(int(m.variables["points"]) for m in handle.benchmark.members) == POINTS


def test_row_is_weighted_by_points() -> None:
    benchmark = load_benchmark(CHAT).benchmark
    names = [m.name for m in benchmark.members]
    results = {n: SubsetResult(n, (), {"score": 100.0 * (n == "2010-2022_Math_II_MCQs")}, 1, 1, None, 0) for n in names}
    head = scores_of("m", benchmark, results, names, {})[0]
    assert (head.row, head.metric, head.level) == ("GaokaoBench", "score", "headline")
    assert head.value == pytest.approx(100 * 1090 / POINTS)


def test_extraction_vectors(shared: Path) -> None:
    handle, lines = load_benchmark(CHAT), list(vectors(shared, "gaokao_bench_extract"))
    assert len(lines) == 43
    for vector in lines:
        context = {key: vector[key] for key in ("type", "num_gold") if key in vector}
        assert handle.extract(vector["raw"], **context) == vector["extracted"], vector


def test_score_vectors(shared: Path) -> None:
    handle, lines = load_benchmark(CHAT), list(vectors(shared, "gaokao_bench_score"))
    assert len(lines) == 15
    for vector in lines:
        scores = handle.score(vector["predictions"], vector["references"], type=vector["type"])
        assert scores == pytest.approx(vector["score"]), vector


def recorded(shared: Path, subset: str) -> list[dict[str, Any]]:
    file = shared / "recorded" / "gaokao_bench" / RECORDED / f"{subset}.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def reason(ours: list[str], authors: list[str]) -> str:
    """Why two answers differ, for the table of a failure."""
    if not authors or not ours:
        return "the authors left the answer empty" if not authors else "no option found"
    return "other letters" if len(ours) == len(authors) else f"{len(ours)} letters, the authors have {len(authors)}"


def test_recorded_answers_are_the_authors(shared: Path) -> None:
    """Agreement on every item, items without an answer included; counted as different, these leave 98.1% of 832."""
    handle = load_benchmark(CHAT, shared / "data")
    table, items, empty = [], 0, 0
    for subset, without in NO_ANSWER.items():
        samples, lines = handle.samples(subset), recorded(shared, subset)
        assert [s.gold for s in samples] == [line["standard_answer"] for line in lines]
        pairs = []
        for sample, line in zip(samples, lines, strict=True):
            ours = handle.extract(line["model_output"], type=type_of(handle, subset), gold=sample.gold)
            pairs.append((ours, line["model_answer"]))
            if ours != line["model_answer"]:
                why = reason(ours, line["model_answer"])
                table.append(f"{sample.id}: {ours} and {line['model_answer']}, gold {sample.gold}: {why}")
        assert sum(not ours for ours, _ in pairs) == without
        items, empty = items + sum(len(s.gold) for s in samples), empty + without
    assert not table, "\n".join(["answers that are not the authors':", *table])
    assert (items, empty) == (832, 16)


def test_recorded_scores(shared: Path) -> None:
    handle, found = load_benchmark(CHAT, shared / "data"), {}
    for subset in NO_ANSWER:
        lines = recorded(shared, subset)
        outputs, golds = [x["model_output"] for x in lines], [x["standard_answer"] for x in lines]
        found[subset] = round(handle.score(outputs, golds, type=type_of(handle, subset))["score"], 2)
    assert list(found.values()) == [46.25, 94.47, 63.3, 55.47]


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("single_choice", "A is right, so C. CABD", ["D"]),
        ("single_choice", "ａ b e", []),
        ("multi_choice", "x【答案】 A C <eoa> B", ["ACB"]),
        # At position 0 the mark is not seen; the last ten characters are read.
        ("multi_choice", "【答案】A 0123456789", []),
        ("multi_choice", "B 123456789C", ["C"]),
        ("multi_question_choice", "Well: 【答案】 : E <eoa>【答案】：B", ["E", "B"]),
        ("multi_question_choice", "【答案】 A 【答案】B【答案】C", ["A", "B"]),
        ("multi_question_choice", "The best", ["T"]),
        ("five_out_of_seven", "Because H, GFEDCBA", ["B", "G", "F", "E", "D"]),
    ],
)
def test_extraction_of_each_type(kind: str, text: str, answer: list[str]) -> None:
    assert load_benchmark(CHAT).extract(text, type=kind, gold=["A", "B"]) == answer


@pytest.mark.parametrize(
    ("kind", "gold", "output", "score"),
    [
        ("multi_choice", ["AB"], "xx【答案】AB", 100.0),
        ("multi_choice", ["AB"], "xx【答案】BA", 50.0),
        ("multi_choice", ["AB"], "xx【答案】ABC", 0.0),
        ("multi_choice", ["AB"], "", 0.0),
        ("single_choice", ["B"], "A B", 100.0),
        # Fewer letters than questions: all wrong, the right ones too.
        ("multi_question_choice", ["A", "B", "C"], "A B", 0.0),
        ("multi_question_choice", ["A", "B"], "A D", 50.0),
        ("five_out_of_seven", ["A", "B", "C", "D", "E"], "A B C E D", 60.0),
        ("cloze", ["word"], "word", 0.0),
    ],
)
def test_score_of_each_type(kind: str, gold: list[str], output: str, score: float) -> None:
    assert load_benchmark(CHAT).score([output], [gold], type=kind) == {"score": pytest.approx(score)}


def test_score_counts_letters_not_rows() -> None:
    scores = load_benchmark(CHAT).score(["A A A", "B"], [["A", "A", "A"], ["A"]], type="multi_question_choice")
    assert scores == {"score": 75.0}


def test_the_type_must_be_known() -> None:
    handle = load_benchmark(CHAT)
    with pytest.raises(ConfigError, match="type"):
        handle.extract("A")
    with pytest.raises(ConfigError, match="number of questions"):
        handle.extract("A", type="multi_question_choice")


def test_long_outputs_take_little_time() -> None:
    handle, start = load_benchmark(CHAT), time.perf_counter()
    for kind in ("single_choice", "multi_choice", "multi_question_choice", "five_out_of_seven"):
        handle.extract(("【答案】" + " " * 20_000) * 5, type=kind, gold=["A", "B"])
    assert time.perf_counter() - start < 60, "a hang, not a slow machine"


@pytest.mark.parametrize("config", CONFIGS)
def test_sample_rows(config: str) -> None:
    handle = load_benchmark(f"{config}:{','.join(SAMPLES)}", "samples")
    handle.task.check()
    for subset, count in SAMPLES.items():
        samples, kind = handle.samples(subset), type_of(handle, subset)
        assert len(samples) == count
        outputs = ["所以\n" + "".join(f"【答案】: {letter} <eoa>\n" for letter in s.gold) for s in samples]
        for sample in samples:
            assert str(handle.render(sample, "base")).endswith(sample.row["question"])
        assert handle.score(outputs, [s.gold for s in samples], type=kind) == {"score": 100.0}
