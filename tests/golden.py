"""Compares rendered prompts with what the reference rendered, and scores with recorded vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalkit.api import BenchmarkHandle
from evalkit.core.records import Sample


def golden_lines(shared: Path, config: str) -> list[dict[str, Any]]:
    """The reference's renderings of one config."""
    text = (shared / "golden" / f"{config}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def check_golden(
    handle: BenchmarkHandle,
    lines: list[dict[str, Any]],
    subset_of: Callable[[str], str],
    find: Callable[[list[Sample], dict[str, Any]], Sample] | None = None,
) -> int:
    """Every prompt of every line equals ours; returns the number of lines.

    `subset_of` gives our subset for the reference's name, `find` the sample of a line (default: the
    one whose index is the line's).
    """
    for line in lines:
        samples = handle.samples(subset_of(line["subset"]))
        sample = find(samples, line) if find else next(s for s in samples if s.index == line["index"])
        assert sample.gold == line["gold"], line["subset"]
        check_line(handle, sample, line)
    return len(lines)


def check_line(handle: BenchmarkHandle, sample: Sample, line: dict[str, Any]) -> None:
    """Every prompt of one golden line."""
    if line["kind"] == "ppl":
        assert handle.render(sample, "base") == line["prompts"]
    elif line["kind"] == "ll":
        rendered = handle.render(sample, "base")
        assert isinstance(rendered, dict)
        pairs = [(c["context"], c["continuation"]) for c in rendered.values() if isinstance(c, dict)]
        assert [a + b for a, b in pairs] == line["prompts"]
        assert pairs == [(part["context"], part["continuation"]) for part in line["split"]]
    else:
        assert handle.render(sample, "base") == line["prompt"]
        assert handle.render(sample, "chat") == line["messages"]
        assert handle.benchmark.gen.max_out_len == line["max_out_len"]
