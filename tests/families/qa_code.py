"""What the tests of TriviaQA, NQ, MBPP and LCBench share: vectors, and made-up rows in the hub's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.api import BenchmarkHandle
from evalkit.core.calls import parse_calls
from evalkit.scoring.extract import extract
from tests.vectors import vectors


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a jsonl file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a jsonl file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def wrong_extractions(shared: Path, handle: BenchmarkHandle) -> tuple[int, list[str]]:
    """(vectors of this config, the raw texts of those that come out otherwise); golds go through the gold's steps."""
    steps = parse_calls(handle.benchmark.metric.args.get("gold", ()))
    count, wrong = 0, []
    for vector in vectors(shared, f"{handle.benchmark.row}_extract", handle.name):
        is_gold = vector.get("kind") == "reference"
        found = extract(vector["raw"], steps, {}) if is_gold else handle.extract(vector["raw"])
        count += 1
        wrong += [vector["raw"]] if found != vector["extracted"] else []
    return count, wrong


def wrong_scores(shared: Path, handle: BenchmarkHandle) -> tuple[int, list[Any]]:
    """(vectors of this config, what is wrong: expected and found)."""
    count, wrong = 0, []
    for vector in vectors(shared, f"{handle.benchmark.row}_score", handle.name):
        found = handle.score(vector["predictions"], vector["references"], allow_code=True)
        count += 1
        wrong += [(vector["score"], found)] if found != vector["score"] else []
    return count, wrong
