"""CMRC 2018: prompts, what follows 答案是, exact match and the script's own measures (protocol sheet: cmrc)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.scoring.metrics.spans import longest_run, normalised, run_f1, units
from tests.vectors import vectors

CONFIG = "CLUE_CMRC_gen_1bd3c8"
VARIANTS = ("CLUE_CMRC_gen_3749cd", "CLUE_CMRC_gen_941108", "CLUE_CMRC_gen_8484b9")


def test_vectors(shared: Path) -> None:
    lines = vectors(shared, "cmrc_score")
    assert len(lines) == 12
    for line in lines:
        names = (CONFIG,) if "1bd3c8" in line["config"] else VARIANTS
        for handle in map(load_benchmark, names):
            found = handle.score(line["predictions"], line["references"])["exact_match"]
            assert found == pytest.approx(line["score"]), line
            answers = [handle.extract(text) for text in line["predictions"]]
            assert answers == line["postprocessed"]
            assert [normalised(answer) for answer in answers] == line["normalised"]


def test_full_item_count_and_golds(shared: Path) -> None:
    samples = load_benchmark(CONFIG, shared / "data").samples()
    assert len(samples) == 3219
    assert samples[0].gold == ["光荣和ω-force"]
    assert all(len(set(s.gold)) == len(s.gold) >= 1 for s in samples)


def test_prompt_is_the_sheets(shared: Path) -> None:
    sheet = (shared / "protocols" / "cmrc.md").read_text(encoding="utf-8")
    template = json.loads(sheet.split("```json\n")[1].split("\n```")[0])
    handle = load_benchmark(CONFIG, shared / "data")
    sample = handle.samples()[-1]
    expected = template.format(**sample.row)
    assert handle.render(sample, "base") == expected
    assert handle.render(sample, "chat") == [{"role": "user", "content": expected + "\n"}]


@pytest.mark.parametrize("config", [CONFIG, *VARIANTS])
def test_sample_rows(config: str) -> None:
    handle = load_benchmark(config, "samples")
    handle.task.check()
    samples = handle.samples()
    golds = [s.gold for s in samples]
    assert golds[0] == ["1987年", "1987"]
    assert handle.score([g[-1] for g in golds], golds) == {"exact_match": 100.0, "em": 100.0, "f1": 100.0}
    assert handle.score(["无"] * len(golds), golds) == {"exact_match": 0.0, "em": 0.0, "f1": 0.0}
    assert samples[1].row["question"] in str(handle.render(samples[1], "chat"))


def test_the_answer_ends_at_the_second_mark() -> None:
    handle = load_benchmark(CONFIG)
    assert handle.extract("根据文章，答案是周岚。答案是馆长") == "周岚。"
    assert handle.extract("周岚") == "周岚"
    assert handle.score(["答案是：周岚。"], [["周岚"]])["exact_match"] == 100.0
    assert handle.score(["周岚馆长"], [["周岚"]])["exact_match"] == 0.0


def test_run_f1() -> None:
    assert units("《青石 Town》3万，") == ["青", "石", "town3", "万"]
    assert longest_run("abcde", "xbcdy") == 3
    assert longest_run("", "a") == 0
    assert run_f1("周岚馆长", "周岚") == pytest.approx(2 * 0.5 * 1.0 / 1.5)
    assert run_f1("。", "周岚") == 0.0
