"""WinoGrande: prompts, the scored continuation, first of two options (protocol sheet: winogrande)."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.core.errors import ConfigError
from tests.families.choice import (
    check_extract_vectors,
    check_sample_rows,
    check_score_vectors,
    put,
    put_rows,
    reference_rows,
)
from tests.golden import check_golden, golden_lines

BASE, CHAT = "winogrande_5shot_ll_252f01", "winogrande_5shot_gen_b36770"
FOLDER = "allenai/winogrande/winogrande_xs"


@pytest.mark.parametrize("config", [BASE, CHAT])
def test_prompts_equal_the_reference(shared: Path, tmp_path: Path, config: str) -> None:
    put(tmp_path, f"{FOLDER}/validation.jsonl", reference_rows(shared, "winogrande/dev.jsonl"))
    put(tmp_path, f"{FOLDER}/train.jsonl", reference_rows(shared, "winogrande/train_xs.jsonl"))
    assert check_golden(load_benchmark(config, tmp_path), golden_lines(shared, config), str) == 12


def test_vectors(shared: Path) -> None:
    assert check_extract_vectors(shared, "winogrande", CHAT) == 108
    assert check_score_vectors(shared, "winogrande", extracted=True) == 12


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    assert len(check_sample_rows(config, "chat" if kind == "chat" else "base").samples()) == 6


def test_exemplars_are_every_second_row_with_its_right_option() -> None:
    handle = load_benchmark(BASE, "samples")
    lines = handle.task.exemplars("winogrande").text.split("\n")
    assert [line[:4] for line in lines] == ["Nora", "Omar", "Lena", "Toma", "Hana", ""]
    assert lines[0] == "Nora lent Ida her umbrella because Ida had left hers at home."
    assert lines[4] == "Hana waited for Jun at the station because Jun was late."


def sentence(tmp_path: Path, text: str) -> dict[str, dict[str, str]]:
    """The ll prompts of one sentence, without exemplars' text."""
    row = {"sentence": text, "option1": "Jo", "option2": "Mo", "answer": "1"}
    put_rows(tmp_path, f"{FOLDER}/validation.jsonl", [row])
    put_rows(tmp_path, f"{FOLDER}/train.jsonl", [{**row, "sentence": f"{i} _."} for i in range(9)])
    handle = load_benchmark(BASE, tmp_path)
    return handle.render(handle.samples()[0])  # type: ignore[return-value]


def test_what_follows_the_blank_is_scored(tmp_path: Path) -> None:
    prompts = sentence(tmp_path, "It was _ who left.")
    assert {label: p["continuation"] for label, p in prompts.items()} == {"A": " who left.", "B": " who left."}
    assert prompts["B"]["context"].endswith("8 Jo.\nIt was Mo")


def test_a_second_blank_is_refused(tmp_path: Path) -> None:
    """Both blanks are filled, so the part between them does not end the text."""
    with pytest.raises(ConfigError, match="does not end the prompt"):
        sentence(tmp_path, "It was _ and _ who left.")


def test_only_two_options_are_known() -> None:
    handle = load_benchmark(CHAT)
    assert handle.extract("The answer is C") == ""
    assert handle.extract("The answer is B") == "B"
