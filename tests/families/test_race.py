"""RACE: prompts, first option, two rows without an average (protocol sheet: race)."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.scoring import aggregate
from evalkit.scoring.score import SubsetResult
from tests.families.choice import check_extract_vectors, check_sample_rows, check_score_vectors, put, reference_rows
from tests.golden import check_golden, golden_lines

BASE, CHAT = "race_ppl_abed12", "race_gen_69ee4f"


@pytest.mark.parametrize("config", [BASE, CHAT])
def test_prompts_equal_the_reference(shared: Path, tmp_path: Path, config: str) -> None:
    for level in ("middle", "high"):
        put(tmp_path, f"ehovy/race/{level}/test.jsonl", reference_rows(shared, f"race/test/{level}.jsonl"))
    handle = load_benchmark(config, tmp_path)
    assert check_golden(handle, golden_lines(shared, config), lambda name: name.removeprefix("race-")) == 12


def test_vectors(shared: Path) -> None:
    assert check_extract_vectors(shared, "race", CHAT) == 108
    assert check_score_vectors(shared, "race", extracted=True) == 12


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    handle = check_sample_rows(config, "chat" if kind == "chat" else "base")
    assert {s: len(handle.samples(s)) for s in handle.subsets} == {"middle": 4, "high": 4}


@pytest.mark.parametrize("levels", [["middle", "high"], ["high"]])
def test_each_level_is_a_row_and_nothing_is_averaged(levels: list[str]) -> None:
    benchmark = load_benchmark(BASE).benchmark
    values = {"middle": 60.0, "high": 40.0}
    results = {s: SubsetResult(s, (), {"accuracy": values[s]}, 4, 4, None, 0) for s in levels}
    rows = aggregate.scores_of("m", benchmark, results, levels, {})
    assert [(r.row, r.value, r.level) for r in rows] == [(f"race-{s}", values[s], "headline") for s in levels]
