"""CMMLU: prompts, first capital letter, averages (protocol sheet: cmmlu)."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from tests.families.choice import check_extract_vectors, check_sample_rows, check_score_vectors
from tests.golden import check_golden, golden_lines

BASE, CHAT = "cmmlu_ppl_041cbf", "cmmlu_gen_c13365"
SIZES = {"stem": 17, "humanities": 13, "social-science": 22, "other": 15, "china-specific": 15}


@pytest.mark.parametrize("config", [BASE, CHAT])
def test_prompts_equal_the_reference(shared: Path, config: str) -> None:
    handle = load_benchmark(config, shared / "data")
    assert check_golden(handle, golden_lines(shared, config), lambda name: name.removeprefix("cmmlu-")) == 12


def test_vectors(shared: Path) -> None:
    assert check_extract_vectors(shared, "cmmlu", CHAT) == 100
    assert check_score_vectors(shared, "cmmlu", extracted=True) == 12


def test_full_item_count(shared: Path) -> None:
    handle = load_benchmark(BASE, shared / "data")
    assert (len(handle.subsets), len(handle.samples())) == (67, 11582)


def test_categories() -> None:
    benchmark = load_benchmark(BASE).benchmark
    assert {g.name: len(g.members) for g in benchmark.groups} == SIZES
    assert all(m.variables["zh"] for m in benchmark.members)


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    handle = check_sample_rows(config, "chat" if kind == "chat" else "base", "agronomy,computer_science")
    assert [len(handle.samples(s)) for s in handle.subsets] == [4, 4]


def test_braces_in_a_question_take_an_option() -> None:
    """The field quirk: an option's name in braces inside a question is replaced by the option."""
    handle = load_benchmark(CHAT, "samples")
    sample = handle.samples("computer_science")[2]
    message = handle.render(sample, "chat")[-1]["content"]  # type: ignore[index]
    assert "\\overline{A}" in sample.row["question"]
    assert "\\overline5" in message and "\\overline{A}" not in message


def test_sample_questions_are_our_own(shared: Path) -> None:
    theirs = {s.row["question"] for s in load_benchmark(BASE, shared / "data").samples()}
    ours = load_benchmark(f"{BASE}:agronomy,computer_science", "samples").samples()
    assert not theirs & {s.row["question"] for s in ours}
