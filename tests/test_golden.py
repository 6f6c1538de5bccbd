"""Prompts equal, character for character, what the reference rendered on the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import BenchmarkHandle, load_benchmark

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


def lines(shared: Path, config: str) -> list[dict[str, Any]]:
    text = (shared / "golden" / f"{config}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("config", CONFIGS)
def test_prompts_equal_the_reference(shared: Path, config: str) -> None:
    handle = load_benchmark(config, shared / "data")
    golden = lines(shared, config)
    assert golden
    for line in golden:
        sample = handle.samples(subset_of(line["subset"]))[line["index"]]
        assert sample.index == line["index"]
        assert sample.gold == line["gold"]
        check(handle, sample, line)


def check(handle: BenchmarkHandle, sample: Any, line: dict[str, Any]) -> None:
    """Every prompt of one golden line."""
    if line["kind"] == "ppl":
        assert handle.render(sample, "base") == line["prompts"]
    elif line["kind"] == "ll":
        rendered = handle.render(sample, "base")
        assert isinstance(rendered, dict)
        assert [c["context"] + c["continuation"] for c in rendered.values()] == line["prompts"]  # type: ignore[index]
        assert [[c["context"], c["continuation"]] for c in rendered.values()] == line["split"]  # type: ignore[index]
    else:
        assert handle.render(sample, "base") == line["prompt"]
        assert handle.render(sample, "chat") == line["messages"]
        assert handle.benchmark.gen.max_out_len == line["max_out_len"]


@pytest.mark.parametrize(("config", "count"), [("mmlu_ppl_ac766d", 14042), ("gsm8k", 1319), ("humaneval", 164)])
def test_full_item_counts(shared: Path, config: str, count: int) -> None:
    assert len(load_benchmark(config, shared / "data").samples()) == count
