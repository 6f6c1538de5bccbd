"""HellaSwag as letter choice: prompts, the preparation of texts, first option (protocol sheet: hellaswag)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from tests.families.choice import (
    check_extract_vectors,
    check_sample_rows,
    check_score_vectors,
    put,
    put_rows,
    reference_rows,
)
from tests.golden import check_golden, golden_lines

BASE, CHAT = "hellaswag_10shot_ppl_59c85e", "hellaswag_10shot_gen_e42710"
HINT = "Continue the following text without adding any additional information or formatting:\n"


@pytest.mark.parametrize("config", [BASE, CHAT])
def test_prompts_equal_the_reference(shared: Path, tmp_path: Path, config: str) -> None:
    """On prepared rows, which is what the reference reads."""
    put(tmp_path, "Rowan/hellaswag/validation.jsonl", reference_rows(shared, "hellaswag/hellaswag.jsonl"))
    put(tmp_path, "Rowan/hellaswag/train.jsonl", reference_rows(shared, "hellaswag/hellaswag_train_sampled25.jsonl"))
    assert check_golden(load_benchmark(config, tmp_path), golden_lines(shared, config), str) == 6


def test_vectors(shared: Path) -> None:
    assert check_extract_vectors(shared, "hellaswag", CHAT) == 112
    assert check_score_vectors(shared, "hellaswag", extracted=True) == 12


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    handle = check_sample_rows(config, "chat" if kind == "chat" else "base")
    assert len(handle.samples()) == 6
    assert handle.task.exemplars("hellaswag").count == 10


def columns(tmp_path: Path, **raw: Any) -> dict[str, Any]:
    """The template's columns for one raw row of the hub."""
    row = {"activity_label": "Label", "ctx_a": "One.", "ctx_b": "", "endings": list("abcd"), "label": "2"}
    put_rows(tmp_path, "Rowan/hellaswag/validation.jsonl", [{**row, **raw}])
    return dict(load_benchmark(BASE, tmp_path).samples()[0].row)


def test_the_label_goes_and_the_second_part_is_capitalised(tmp_path: Path) -> None:
    row = columns(tmp_path, ctx_a="A man sits: he waits.", ctx_b="then Bob STANDS")
    assert row["ctx"] == "A man sits: he waits. Then bob stands"
    assert (row["A"], row["D"], row["label"]) == ("a", "d", "C")


def test_brackets_titles_and_double_spaces_are_cleaned(tmp_path: Path) -> None:
    row = columns(
        tmp_path,
        ctx_a="[header] How to pack [title] Start.  [step] Go on.",
        endings=[" [substeps] Take a bag. ", "x [a] y [b] z", "one  two   three", "plain"],
    )
    # A bracket leaves the spaces around it, of which one pass takes every second.
    assert row["ctx"] == "How to pack. Start.  Go on."
    assert [row[c] for c in "ABCD"] == [" Take a bag.", "x y z", "one two  three", "plain"]


def test_an_empty_second_part_leaves_no_space(tmp_path: Path) -> None:
    assert columns(tmp_path, ctx_a="One.", ctx_b="")["ctx"] == "One."


def test_prepared_rows_are_used_as_they_are(tmp_path: Path) -> None:
    prepared = {"query": "no label [kept]  here", "choices": ["[x] a", "b", "c", "d"], "gold": 3}
    put_rows(tmp_path, "Rowan/hellaswag/validation.jsonl", [prepared])
    row = load_benchmark(BASE, tmp_path).samples()[0].row
    assert (row["ctx"], row["A"], row["label"]) == ("no label [kept]  here", "[x] a", "D")


def test_the_hint_is_part_of_the_first_message() -> None:
    handle = load_benchmark(CHAT, "samples")
    sample = handle.samples()[0]
    chat, base = handle.render(sample, "chat"), handle.render(sample, "base")
    assert isinstance(chat, list) and len(chat) == 21
    assert [m["role"] for m in chat] == ["user", "assistant"] * 10 + ["user"]
    assert chat[0]["content"].startswith(f"{HINT}\nA boy rolls") and chat[0]["content"].endswith("option?\n")
    assert not any(HINT in m["content"] for m in chat[1:])
    assert isinstance(base, str) and base.endswith("What is the right option?\n\n")
