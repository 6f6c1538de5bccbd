"""Prompts equal, character for character, what the reference rendered on the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from tests.golden import check_golden, golden_lines

PREFIXES = ("lukaemon_mmlu_",)
SINGLE = {"openai_humaneval": "humaneval"}
CONFIGS = [
    "mmlu_ppl_ac766d",
    "mmlu_gen_4d595a",
    "gsm8k_gen_17d0dc",
    "gsm8k_gen_1d7fe4",
    "deprecated_humaneval_gen_d2537e",
    "humaneval_gen_8e312c",
]


def subset_of(name: str) -> str:
    """Our subset for the reference's data set name."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return SINGLE.get(name, name)


@pytest.mark.parametrize("config", CONFIGS)
def test_prompts_equal_the_reference(shared: Path, config: str) -> None:
    handle = load_benchmark(config, shared / "data")
    assert check_golden(handle, golden_lines(shared, config), subset_of) >= 8


@pytest.mark.parametrize(("config", "count"), [("mmlu_ppl_ac766d", 14042), ("gsm8k", 1319), ("humaneval", 164)])
def test_full_item_counts(shared: Path, config: str, count: int) -> None:
    assert len(load_benchmark(config, shared / "data").samples()) == count
