"""GSM8K's numbers against the published vectors."""

from __future__ import annotations

from pathlib import Path

from evalkit.core.calls import parse_calls
from evalkit.scoring.extract import extract
from tests.vectors import vectors

STEPS = {
    "prediction": parse_calls([{"before": "Question:"}, {"last_number": {"none": "NULL"}}]),
    "reference": parse_calls("gsm8k_gold"),
}


def test_vectors(shared: Path) -> None:
    lines = vectors(shared, "gsm8k_extract")
    assert {line["role"] for line in lines} == set(STEPS)
    assert [line for line in lines if extract(line["raw"], STEPS[line["role"]], {}) != line["extracted"]] == []
