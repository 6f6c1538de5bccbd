"""`results.json`: the documented keys and no others, the numbers of the table, valid JSON whatever the numbers are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.records import Counts, Issue, Job
from evalkit.execution.runner import JobFailure
from evalkit.report.results import VERSION, results_of
from evalkit.results.store import RunStore
from evalkit.scoring.errors import interval_of
from tests import helpers
from tests.report import fabricate

FREE = ("scores[].counts.programs",)
"""Objects whose keys are not fixed."""


def documented() -> set[str]:
    """The keys of the table in docs/results.md."""
    page = (helpers.ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?`) \|", page, re.M)
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def paths(value: Any, at: str = "") -> Iterator[str]:
    """The keys of a document down to its values: `scores[].issues[].kind`."""
    if isinstance(value, dict) and at not in FREE:
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}" if at else key)
    elif isinstance(value, list) and at.rpartition(".")[2] not in ("command", "modes", "interval"):
        for inner in value:
            yield from paths(inner, f"{at}[]")
    else:
        yield at


def test_file_has_the_documented_keys_and_the_numbers(tmp_path: Path) -> None:
    benchmark = fabricate.benchmark("gsm8k")
    issue = Issue("left_truncated", "3 prompts left-truncated")
    counts = Counts(fragile=1, programs={"passed": 3, "timeout": 2})
    scores = [
        fabricate.score(benchmark, 61.25, stderr=1.5, issues=(issue,), counts=counts),
        fabricate.score(benchmark, None, "other", n=0, issues=(Issue("unanswered", "no answers"),)),
    ]
    store = fabricate.run(tmp_path, [benchmark], scores)
    failure = JobFailure(Job(3, "other", benchmark.name, "gsm8k", 0, 100, 7.5), "the worker died", "more memory", "w1")
    manifest = store.manifest()
    plan = fabricate.plan_of(store)
    store.write_results(results_of(store.name, manifest, plan, scores, [failure], ["a note"], False))
    content = json.loads((store.folder / "results.json").read_text("utf-8"))
    assert set(paths(content)) == documented()
    assert (content["schema"], content["version"]) == ("evalkit.results", VERSION)
    assert content["run"]["command"] == ["test"] and not content["run"]["complete"]
    first, second = content["scores"]
    assert first["interval"] == pytest.approx([61.25 - 2.9399, 61.25 + 2.9399], abs=1e-4)
    assert first["counts"]["programs"] == {"passed": 3, "timeout": 2}
    assert second["value"] is None and second["interval"] is None


def test_every_scored_run_has_one(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "fake_base")
    args = (
        "--config-dir",
        tmp_path / "c",
        "--models",
        "fake_base",
        "--datasets",
        helpers.MMLU,
        "--data-root",
        "samples",
    )
    done = helpers.run(*args, "--debug", "--json", "--work-dir", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    content = json.loads((helpers.run_folder(tmp_path / "work") / "results.json").read_text("utf-8"))
    printed = json.loads(done.stdout)["scores"]
    assert [(s["row"], s["value"], s["n"]) for s in content["scores"]] == [
        (s["row"], s["value"], s["n"]) for s in printed
    ]
    assert content["run"]["complete"] and content["benchmarks"][0]["limited"] == "sample data"
    # a run without failures has none of their keys; its notes say that the rows are made up
    assert set(paths(content)) == {key for key in documented() if not key.startswith("failures[].")}


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    RunStore(tmp_path).write_results({"value": float("nan"), "text": "\ud800"})
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == {"value": None, "text": "\ufffd"}


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (50.0, 5.0, (40.2, 59.8)),
        (97.0, 2.0, (93.08, 100.0)),
        (1.0, 2.0, (0.0, 4.92)),
        (100.0, 0.0, None),
        (50.0, None, None),
        (None, None, None),
    ],
)
def test_interval(value: float | None, error: float | None, expected: tuple[float, float] | None) -> None:
    found = interval_of(fabricate.score("row", value, stderr=error))
    assert found == (expected and pytest.approx(expected, abs=1e-3))
