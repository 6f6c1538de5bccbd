"""A run folder as the version before the request index wrote it is read, scored, compared and continued.

`earlier/run` was made by evalkit 0.1.0 at commit c31047e, with the configs beside it: one model answers from digests
and leaves a request unanswered, the other is the checkpoint that comes with evalkit. Two subsets, `a b` and `a_b`,
share a file of replies there. Its paths stand as placeholders.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

FIXTURE = Path(__file__).with_name("earlier")
DATASETS = ("old_choice_ppl", "old_words_gen", "demo_cloze_ll")
MODELS = ("old_fake", "embedded_base")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run, with its paths filled in."""
    shutil.copytree(FIXTURE / "configs", tmp_path / "configs")
    folder = tmp_path / "work" / "20261128_090509"
    shutil.copytree(FIXTURE / "run", folder)
    manifest = (FIXTURE / "run" / "manifest.json").read_text(encoding="utf-8")
    places = {"RUN": folder, "CONFIGS": tmp_path / "configs", "WORK": tmp_path / "work", "EVALKIT": helpers.ROOT}
    for name, place in places.items():
        manifest = manifest.replace(f"@{name}@", str(place))
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    return folder


def command(run: Path, *more: object) -> list[object]:
    """The command that made the run."""
    return [
        "--models", *MODELS, "--datasets", *DATASETS, "--limit", 3, "--config-dir", run.parents[1] / "configs",
        "--work-dir", run.parent, "--debug", *more,
    ]  # fmt: skip


def answers(run: Path) -> None:
    """The model answers everything from now on."""
    config = run.parents[1] / "configs" / "model_configs" / "old_fake.yaml"
    config.write_text(config.read_text().replace('error_on: "No answer"', 'error_on: ""'))


def numbers(run: Path) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    """(model, benchmark, row) -> value, samples and standard error in the scores file."""
    scores = json.loads((run / "scores" / "scores.json").read_text())["scores"]
    keys = ("value", "n", "n_expected", "stderr")
    return {(s["model"], s["benchmark"], s["row"]): tuple(s[k] for k in keys) for s in scores}


def as_json(*args: object, code: int = 0) -> Any:
    done = helpers.run(*args, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_it_is_read(run: Path) -> None:
    (listed,) = as_json("list", "runs", "--work-dir", run.parent)
    assert listed["run"] == run.name and listed["status"] == "incomplete"
    told = as_json("status", run)
    assert told["state"] == "incomplete" and "No answer" in told["failures"][0]["cause"]
    assert {(row["model"], row["benchmark"]) for row in told["parts"]} == {(m, d) for m in MODELS for d in DATASETS}


def test_it_is_scored_as_it_was(run: Path) -> None:
    before = numbers(run)
    assert len(before) == 18 and before["old_fake", "old_words_gen", "old_words"][:3] == (0.0, 2, 3)
    done = helpers.run("score", run)
    assert done.returncode == 1 and "old_fake old_words: 2 of 3 samples answered" in done.stdout
    assert numbers(run) == before
    # the subsets that shared a file of replies have verdicts of their own now
    verdicts = sorted((run / "scores" / "old_fake" / "old_choice_ppl").glob("a*.jsonl"))
    subsets = [{json.loads(line)["subset"] for line in path.read_text().splitlines()} for path in verdicts]
    assert {"a b"} in subsets and len(verdicts) == 2
    # and from now on neither data nor prompts are needed
    shutil.rmtree(run.parents[1] / "configs")
    assert helpers.run("score", run).returncode == 1 and numbers(run) == before


@pytest.mark.parametrize("more", [(), ("--reuse", "demo_arithmetic_gen")], ids=["same command", "extended"])
def test_it_is_continued(run: Path, more: tuple[str, ...]) -> None:
    before = Counter(helpers.reply_keys(run))
    answers(run)
    asked = command(run)
    if more:
        asked = ["--models", "old_fake", "--datasets", more[1], "old_words_gen", *asked[asked.index("--limit") :]]
        asked += ["--reuse", run.name]
    done = helpers.run(*asked)
    assert done.returncode == 0, done.stderr
    assert helpers.run_folder(run.parent) == run
    added = Counter(helpers.reply_keys(run)) - before
    assert len(added) == (1 + 6 if more else 1) and max(added.values()) == 1  # the unanswered one, and what is new
    now, rows = numbers(run), 21 if more else 18
    assert len(now) == rows and all(n == expected for _, n, expected, _ in now.values())
    assert json.loads((run / "manifest.json").read_text())["status"] == "complete"


@pytest.mark.parametrize("models", [MODELS[:1], pytest.param(MODELS, marks=pytest.mark.slow)], ids=["one", "both"])
def test_it_is_compared_with_a_run_of_today(run: Path, models: tuple[str, ...]) -> None:
    asked = command(run, "--new")
    asked[1 : 1 + len(MODELS)] = models
    done = helpers.run(*asked)
    assert done.returncode == 1, done.stderr  # the same request has no answer
    (today,) = (p.parent for p in run.parent.glob("*/manifest.json") if p.parent != run)
    before = {key: value for key, value in numbers(run).items() if key[0] in models}
    assert numbers(today) == before and len(before) == 9 * len(models)
    keys = set(helpers.reply_keys(today))
    assert len(keys) == 63 * len(models) and keys <= set(helpers.reply_keys(run))
    compared = as_json("compare", run, today)
    assert [c["a"].rpartition(" ")[2] for c in compared] == list(models) and not any(c["unlike"] for c in compared)
    rows = [d for c in compared for d in c["differences"]]
    assert len(rows) == 3 * len(models) and all(d["a"]["value"] == d["b"]["value"] and not d["flips"] for d in rows)
