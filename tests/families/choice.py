"""What the tests of the multiple-choice benchmarks share: vectors, and rows in the hub's layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.api import BenchmarkHandle, load_benchmark
from evalkit.core.records import Kind
from tests.vectors import vectors


def reference_rows(shared: Path, name: str) -> Path:
    """A file or folder of the made-up rows that the reference rendered."""
    return shared / "golden" / "synthetic_rows" / name


def put(root: Path, name: str, source: Path) -> None:
    """Copy a file of rows into a data root."""
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def put_rows(root: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows into a data root, as jsonl."""
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def check_extract_vectors(shared: Path, name: str, config: str) -> int:
    """Every line of `<name>_extract` gives its answer under the config; returns the number of lines."""
    handle = load_benchmark(config)
    lines = vectors(shared, f"{name}_extract")
    assert {line["config"] for line in lines} == {config}
    assert not [line for line in lines if handle.extract(line["raw"]) != line["extracted"]]
    return len(lines)


def check_score_vectors(shared: Path, name: str, *, extracted: bool) -> int:
    """Every line of `<name>_score` gives its score; `extracted`: predictions are answers, not outputs."""
    lines = vectors(shared, f"{name}_score")
    for line in lines:
        handle = load_benchmark(line["config"])
        assert handle.score(line["predictions"], line["references"], extracted=extracted) == line["score"]
    return len(lines)


def check_sample_rows(config: str, kind: Kind, subsets: str = "") -> BenchmarkHandle:
    """The config loads, renders and scores on the project's own rows; returns it."""
    handle = load_benchmark(f"{config}:{subsets}" if subsets else config, "samples", kind=kind)
    handle.task.check()
    for subset in handle.task.scored:
        samples = handle.samples(subset)
        assert len({s.gold for s in samples}) > 1
        for sample in samples:
            prompt = handle.render(sample, kind)
            assert prompt and "{{" not in str(prompt)
        golds = [s.gold for s in samples]
        assert handle.score(golds, golds, extracted=True) == {"accuracy": 100.0}
        wrong = ["" for _ in golds]
        assert handle.score(wrong, golds, extracted=True) == {"accuracy": 0.0}
    return handle
