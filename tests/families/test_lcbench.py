"""LCBench: prompts in two languages, programs read out of answers, pass@1 over problems."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from evalkit.api import BenchmarkHandle, load_benchmark
from evalkit.core.errors import DataError
from tests.families.qa_code import wrong_extractions, wrong_scores
from tests.golden import check_golden, golden_lines

CONFIG = "lcbench_gen_5ff288"
SUBSETS = ["lcbench_en", "lcbench_cn"]


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """The made-up rows, which have the publisher's names, beside the real exemplars."""
    shutil.copytree(shared / "golden/synthetic_rows/LCBench2023", tmp_path / "LCBench2023")
    (tmp_path / "fewshot").symlink_to(shared / "data/fewshot")
    return tmp_path


@pytest.fixture(scope="module")
def sampled() -> BenchmarkHandle:
    return load_benchmark(CONFIG, "samples")


def test_prompts_equal_the_reference(shared: Path, root: Path) -> None:
    handle = load_benchmark(CONFIG, root)
    handle.task.check()
    assert handle.subsets == SUBSETS
    assert check_golden(handle, golden_lines(shared, CONFIG), lambda name: name) == 12


@pytest.mark.parametrize("kind", ["base", "chat"])
def test_both_kinds_use_one_config(kind: str) -> None:
    assert load_benchmark("lcbench", "samples", kind=kind).name == CONFIG  # type: ignore[arg-type]


def test_each_subset_has_its_exemplars_and_digest(root: Path) -> None:
    whole, one = (load_benchmark(name, root) for name in (CONFIG, f"{CONFIG}:lcbench_cn"))
    one.task.check()
    assert one.subsets == ["lcbench_cn"]
    assert one.task.exemplar_sha256() == whole.task.exemplar_sha256()


def test_absent_files_are_said(shared: Path) -> None:
    handle = load_benchmark(CONFIG, shared / "data/fewshot")
    with pytest.raises(DataError, match="LCBench2023/LCBench2023.jsonl") as caught:
        handle.samples()
    assert "by hand" in caught.value.hint and "fetch" not in caught.value.hint
    assert "LCBench2023 is not on the hub" in handle.benchmark.notes


def test_vectors(shared: Path) -> None:
    handle = load_benchmark(CONFIG, shared / "data")
    assert wrong_extractions(shared, handle) == (44, [])
    assert wrong_scores(shared, handle) == (11, [])


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("''.join(['a'])", "'.join(['a'])"),  # nothing is evaluated
        ("f'{1 + 1}'", "f'{1 + 1}"),  # nor are the fields of an f-string
        ("'a' 'b'", "ab"),
        ("```py\nx\n```\n```py\ny\n```", "x"),
        ("`\\``python\nx\n``\\`", "x"),  # a fence that only the missing backslashes make
        ("x '  [DONE] y DONE", "x"),
        ("BEGIN'  x", "x"),
        ("[BEGIN] x DONE [BEGIN] y", "x"),
    ],
)
def test_programs(sampled: BenchmarkHandle, text: str, program: str) -> None:
    assert sampled.extract(text) == program


@pytest.mark.parametrize("text", ["[BEGIN]'" * 12_000, " " * 100_000 + "x", "' " * 50_000, "`" * 100_000, "(" * 99_999])
def test_long_hard_texts_take_no_time(sampled: BenchmarkHandle, text: str) -> None:
    started = time.perf_counter()
    sampled.extract(text)
    assert time.perf_counter() - started < 60, "a hang, not a slow machine"


def test_problems_count_once(sampled: BenchmarkHandle) -> None:
    golds = [{"task_id": n, "test_list_2": "assert ok"} for n in (1, 1, 1, 2)]
    found = sampled.score(["ok = 1", "ok = 1", "ok = 0", "x"], golds, allow_code=True)
    assert found == {
        "pass@1": pytest.approx(100 * (2 / 3 + 0) / 2),
        "pass": 2,
        "timeout": 0,
        "failed": 1,
        "wrong_answer": 1,
    }
    with pytest.raises(DataError, match="task_id"):
        sampled.score(["x"], [{"test_list_2": ""}], allow_code=True)


def test_samples_render_and_score(sampled: BenchmarkHandle) -> None:
    sampled.task.check()
    assert {s: len(sampled.samples(s)) for s in SUBSETS} == {"lcbench_en": 5, "lcbench_cn": 5}
    samples = sampled.samples()
    assert samples[0].gold["task_id"] == 6, "the first five rows are no test items"
    english, chinese = (sampled.render(sampled.samples(s)[0], "base") for s in SUBSETS)
    assert "Your code should pass" in english and "你的代码需要通过以下测试" in chinese
    assert isinstance(english, str) and english.endswith("  \n\n[BEGIN]\n")
    answers = [f"[BEGIN]\n '{s.row['code']}' \n[DONE] \n" for s in samples]
    found = sampled.score(answers, [s.gold for s in samples], allow_code=True)
    assert found == {"pass@1": 100.0, "pass": 10, "timeout": 0, "failed": 0, "wrong_answer": 0}
