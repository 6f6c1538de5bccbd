"""GPQA diamond: prompts, rotation of the options, first option (protocol sheet: gpqa)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

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

BASE, CHAT = "gpqa_ppl_6bf57a", "gpqa_gen_4baadb"
FILE = "Idavidrein/gpqa/gpqa_diamond/train"
COLUMNS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
PPL_B = "62ef38a31694983672ff19c2e5b9fcafd5b277b3e19c6bca73bafa77c228160f"
MESSAGES = "fff4e58531c2e5a09893472c56b8e47850bda288f620bf84326d1cefaefb9094"
"""Digests of the two prompts of one invented item, from the protocol sheet."""


@pytest.mark.parametrize("config", [BASE, CHAT])
def test_prompts_equal_the_reference(shared: Path, tmp_path: Path, config: str) -> None:
    put(tmp_path, f"{FILE}.csv", reference_rows(shared, "gpqa/gpqa_diamond.csv"))
    assert check_golden(load_benchmark(config, tmp_path), golden_lines(shared, config), str) == 6


def test_vectors(shared: Path) -> None:
    assert check_extract_vectors(shared, "gpqa", CHAT) == 59
    assert check_score_vectors(shared, "gpqa", extracted=False) == 11


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    handle = check_sample_rows(config, "chat" if kind == "chat" else "base")
    assert handle.subsets == ["GPQA_diamond"] and len(handle.samples()) == 5


def rows_of(tmp_path: Path, *items: tuple[str, str, str, str, str]) -> None:
    put_rows(tmp_path, f"{FILE}.jsonl", [dict(zip(COLUMNS, item, strict=True)) for item in items])


def test_options_are_turned_by_one_an_item(tmp_path: Path) -> None:
    rows_of(tmp_path, *[("q", "right", "w1", "w2", "w3")] * 198)
    samples = load_benchmark(BASE, tmp_path).samples()
    assert [[s.row[c] for c in "ABCD"] for s in samples[:5]] == [
        ["w1", "w2", "w3", "right"],
        ["w2", "w3", "right", "w1"],
        ["w3", "right", "w1", "w2"],
        ["right", "w1", "w2", "w3"],
        ["w1", "w2", "w3", "right"],
    ]
    golds = [s.gold for s in samples]
    assert {letter: golds.count(letter) for letter in "ABCD"} == {"A": 49, "B": 49, "C": 50, "D": 50}


def test_the_publisher_s_csv_is_read_row_by_row(tmp_path: Path) -> None:
    """Texts are used verbatim: newlines inside quotes stay, and only a line's end parts two rows."""
    text = ",".join(COLUMNS) + '\r\nfirst\u2028part,"right\n",w1,w2,w3\r\nsecond,right,w1,w2,w3\r\n'
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / f"{FILE}.csv").write_bytes(text.encode())
    samples = load_benchmark(BASE, tmp_path).samples()
    assert [s.row["question"] for s in samples] == ["first\u2028part", "second"]
    assert samples[0].row["D"] == "right\n" and samples[0].gold == "D"


def test_the_gold_is_the_first_option_with_the_right_text(tmp_path: Path) -> None:
    rows_of(tmp_path, ("q", "same", "w1", "same", "w3"))
    assert load_benchmark(BASE, tmp_path).samples()[0].gold == "B"


def test_prompts_of_the_sheet(tmp_path: Path) -> None:
    rows_of(tmp_path, ("Which is a noble gas?", "N", "He", "H", "O"))
    base, chat = load_benchmark(BASE, tmp_path), load_benchmark(CHAT, tmp_path)
    prompts = base.render(base.samples()[0])
    assert isinstance(prompts, dict)
    assert hashlib.sha256(str(prompts["B"]).encode()).hexdigest() == PPL_B
    messages = chat.render(chat.samples()[0], "chat")
    assert hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest() == MESSAGES
