"""Verdicts, subset results and table rows: what is flagged, what is averaged, what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from evalkit.core import stats
from evalkit.core.records import Issue, ModelSpec, Reply, Score
from evalkit.plan.task import Task, requests_of
from evalkit.report.notes import fragile_notes
from evalkit.report.table import cell, foot, make_table, pick_rows, without_subsets
from evalkit.results.index import IndexedSample, keys_of
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.score import Options, SubsetResult, score_subset

MODEL = ModelSpec("m", "p", "base")


@pytest.fixture
def task() -> Task:
    """The project's own MMLU rows."""
    return load_benchmark("mmlu_ppl_ac766d:anatomy,astronomy", "samples").task


def replies(task: Task, subset: str, nll: Any) -> dict[str, Reply]:
    """A reply to every request; `nll` gives it from the sample and the label."""
    return {
        r.key: Reply(r.key, nll=nll(sample, r.label))
        for sample in task.samples(subset)
        for r in requests_of(task, sample, MODEL, "f")
    }


def scored(task: Task, found: dict[str, Reply], subset: str = "anatomy", noise: float | None = None) -> SubsetResult:
    indexed = [IndexedSample(s, keys_of(requests_of(task, s, MODEL, "f"))) for s in task.samples(subset)]
    return score_subset(task.benchmark, subset, indexed, found, Options(), noise=noise)


def test_lowest_nll_wins_and_the_first_label_wins_a_tie(task: Task) -> None:
    right = scored(task, replies(task, "anatomy", lambda s, label: float(label != s.gold)))
    assert right.results == {"accuracy": 100.0} and right.n == right.n_expected == 8
    tied = scored(task, replies(task, "anatomy", lambda s, label: 1.0 if label == "D" else 0.5))
    assert {v.answer for v in tied.verdicts} == {"A"}


def test_missing_replies_are_counted_not_averaged(task: Task) -> None:
    found = replies(task, "anatomy", lambda s, label: float(label != s.gold))
    first = task.samples("anatomy")[0]
    for request in list(requests_of(task, first, MODEL, "f"))[:1]:
        found[request.key] = Reply(request.key, error="boom")
    result = scored(task, found)
    assert (result.n, result.n_expected, result.results["accuracy"]) == (7, 8, 100.0)
    assert result.verdicts[0].missing and result.verdicts[0].detail == {"error": "boom"}


def test_engine_without_log_probabilities_gives_no_chance_score(task: Task) -> None:
    result = scored(task, replies(task, "anatomy", lambda s, label: None))
    assert result.n == 0 and not result.results
    assert "no log-probability" in result.verdicts[0].detail["error"]


def test_constant_log_probabilities_are_refused(task: Task) -> None:
    result = scored(task, replies(task, "anatomy", lambda s, label: 1.25))
    assert not result.results and result.problem and "same log-probability" in result.problem.text
    rows = scores_of("m", task.benchmark, {"anatomy": result}, ["anatomy"], {})
    assert rows[0].value is None and "same log-probability" in rows[0].flag and cell(rows[0]) == "failed"


@pytest.mark.parametrize("noise", [None, 0.5])
def test_answers_below_the_numeric_noise_are_counted(task: Task, noise: float | None) -> None:
    """Margins are those of whole texts: a mean over 10 tokens that is 0.04 better is 0.4 nats better."""
    lead = {s.id: 0.04 if i < 3 else 0.06 for i, s in enumerate(task.samples("anatomy"))}
    found = {
        r.key: Reply(r.key, nll=2.0 - lead[s.id] if r.label == "B" else 2.0 + ord(r.label) - ord("A"), n_tokens=10)
        for s in task.samples("anatomy")
        for r in requests_of(task, s, MODEL, "f")
    }
    judged = scored(task, found, noise=noise)
    assert judged.counts.fragile == (3 if noise else 0)
    margins = [v.detail.get("margin") for v in judged.verdicts]
    assert margins == ([0.4] * 3 + [0.6] * 5 if noise else [None] * 8)
    rows = scores_of("m", task.benchmark, {"anatomy": judged}, ["anatomy"], {})
    engines = {"m": {"dtype": "bfloat16", "score_noise": noise}}
    notes = fragile_notes(rows, engines)
    assert len(notes) == (1 if noise else 0)
    assert all("3 of 8 answers" in note and "bfloat16" in note for note in notes)


def result(subset: str, value: float, n: int = 10, expected: int = 10, stderr: float | None = 3.0) -> SubsetResult:
    return SubsetResult(subset, (), {"accuracy": value}, n, expected, stderr, 0)


def test_averages_are_naive_over_subsets_and_partial_ones_say_so(task: Task) -> None:
    found = {"anatomy": result("anatomy", 50.0, 10), "astronomy": result("astronomy", 100.0, 9, 10)}
    rows = {r.row: r for r in scores_of("m", task.benchmark, found, ["anatomy", "astronomy"], {})}
    assert rows["mmlu"].value == 75.0 and (rows["mmlu"].n, rows["mmlu"].n_expected) == (19, 20)
    assert "2 of 57 subsets" in rows["mmlu"].flag and "2 of 19 subsets" in rows["mmlu-stem"].flag
    assert rows["mmlu"].stderr == pytest.approx((3.0**2 + 3.0**2) ** 0.5 / 2)
    assert "mmlu-other" not in rows and rows["mmlu-anatomy"].level == "subset"
    assert cell(rows["mmlu"]) == "75.00 (19/20)* ±2.12"


def test_nothing_is_averaged_over_a_gap(task: Task) -> None:
    rows = {
        r.row: r
        for r in scores_of("m", task.benchmark, {"anatomy": result("anatomy", 50.0)}, ["anatomy", "astronomy"],
                           {"astronomy": "worker died"})
    }  # fmt: skip
    assert rows["mmlu"].value is None and "worker died" in rows["mmlu"].flag
    assert rows["mmlu-anatomy"].value == 50.0 and rows["mmlu-astronomy"].value is None


def score(row: str, model: str, value: float | None, **more: Any) -> Score:
    return Score(model, row[0], "v", "ppl", row, "accuracy", value, **{"n": 5, "n_expected": 5, **more})


def test_table_cells_and_foot() -> None:
    scores = [
        score("a", "x", 12.345), score("a", "y", None, issues=(Issue("failed", "died"),)), score("b", "x", 1.0, n=3),
        score("b-1", "x", 2.0, level="subset"),
    ]  # fmt: skip
    table = make_table(scores, ["x", "y"], ["note"])
    texts = [[cell(s) for s in line.scores] for line in table.lines]
    assert texts == [["12.35", "failed"], ["1.00 (3/5)", "-"], ["2.00", "-"]]
    assert foot(table) == ["* y a: died", "* x b: 3 of 5 samples answered", "note"]
    assert [x.dataset for x in without_subsets(table).lines] == ["a", "b"]
    gap = make_table(
        [score("c", "x", None, issues=(Issue("failed", "died"),)), score("c-1", "x", 2.0, level="subset")], ["x"]
    )
    assert [x.dataset for x in without_subsets(gap).lines] == ["c", "c-1"], "a subset's number is not hidden by a gap"
    picked = pick_rows(table, ["b", "nowhere", "a"])
    assert [x.dataset for x in picked.lines] == ["b", "nowhere", "a"] and picked.lines[1].scores == (None, None)


def test_statistics() -> None:
    assert stats.mean([0.1] * 10) == 0.1
    assert stats.standard_error([0.0, 100.0]) == pytest.approx(50.0)
    assert stats.standard_error([1.0]) is None
    assert stats.weighted_mean([0.0, 100.0], [3.0, 1.0]) == 25.0
    assert stats.standard_error_of_mean([1.0, None], [1.0, 1.0]) is None


def test_sample_root_is_found() -> None:
    assert Path(load_benchmark("gsm8k", "samples").task.root.folder or "").name == "samples"
