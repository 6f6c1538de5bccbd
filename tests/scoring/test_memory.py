"""Scoring holds one subset at a time: more subsets take no more memory, and verdicts are in files before the next."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from evalkit import session
from evalkit.core.records import Verdict
from evalkit.execution.debug import DebugRunner
from evalkit.plan.options import RunOptions
from evalkit.results.store import RunStore
from evalkit.scoring.score import Options, SubsetResult, score_subset
from evalkit.session import Finished, ReportOptions, RunSettings, run, score_run
from tests import helpers

CONFIG = """
row: many
mode: gen
data: {{file: rows.jsonl}}
gold: answer
where: part == subset
subsets: [{subsets}]
prompt: "{{{{ question }}}}"
gen: {{max_out_len: 8}}
extract: [last_number]
metric: accuracy
"""
ROWS = 60
NO_PAGES = ReportOptions(pages=False)
LONG = "a long gold " * 100


def finished_run(folder: Path, subsets: int) -> RunStore:
    """A run over so many subsets of equal size, with verdicts of more than a kilobyte each."""
    names = [f"s{i}" for i in range(subsets)]
    (folder / "dataset_configs").mkdir(parents=True)
    (folder / "dataset_configs" / "many_gen.yaml").write_text(CONFIG.format(subsets=", ".join(names)))
    rows = [f'{{"question": "{n} {i}", "answer": "{LONG}{i}", "part": "{n}"}}\n' for n in names for i in range(ROWS)]
    (folder / "dataset_configs" / "rows.jsonl").write_text("".join(rows))
    helpers.fake_model(folder, "m")
    options = RunOptions(("m",), ("many_gen",), config_dirs=(str(folder),))
    finished = run(options, RunSettings((), folder / "work", runner=DebugRunner()))
    assert isinstance(finished, Finished) and finished.complete
    return RunStore(finished.store.folder)


def most_memory(store: RunStore) -> int:
    """Most bytes that scoring a run takes on top of what was there."""
    score_run(store, Options(), report=NO_PAGES)  # what is loaded and compiled once
    gc.collect()
    tracemalloc.start()
    try:
        score_run(store, Options(), report=NO_PAGES)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_subsets(tmp_path: Path) -> None:
    few, many = (most_memory(finished_run(tmp_path / str(n), n)) for n in (2, 16))
    one_subset = ROWS * len(LONG)  # the golds alone; verdicts, rows and replies of one are several times that
    assert many - few < 2 * one_subset, "14 more subsets hold 14 times that"


def test_no_verdict_outlives_its_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = finished_run(tmp_path, 4)
    alive: list[int] = []

    def counted(*args: Any) -> SubsetResult:
        gc.collect()
        alive.append(sum(type(thing) is Verdict for thing in gc.get_objects()))
        return score_subset(*args)

    monkeypatch.setattr(session, "score_subset", counted)
    gc.collect()
    before = sum(type(thing) is Verdict for thing in gc.get_objects())
    score_run(store, Options(), report=NO_PAGES)
    assert len(alive) == 4 and max(alive) - before <= ROWS, "at most those of the subset before"
    lines = [len(path.read_text().splitlines()) for path in store.verdicts_path("m", "many_gen").glob("*.jsonl")]
    assert lines == [ROWS] * 4
