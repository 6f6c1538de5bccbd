"""The embedded models on the demo benchmarks: known scores, neither chance nor perfect, by every way of running."""

from __future__ import annotations

import csv
import json
import os
import signal
import statistics
import time
from pathlib import Path

import pytest

from evalkit.report.summary import read_reference
from tests import helpers

EMBEDDED = helpers.ROOT / "evalkit/builtin/embedded"
REFERENCE = helpers.ROOT / "summarizers/reference/demo.csv"
MODELS = ("embedded_base", "embedded_chat")
CHANCE = {"demo_choice_ppl": 25.0, "demo_choice_gen": 25.0, "demo_cloze_ll": 25.0}
"""Percent; the others cannot be guessed."""
CLEARLY, MOST = 15.0, 97.0
"""Percentage points above chance, and what would be perfect."""
NEAR = 1.01
"""Percentage points that another machine's rounding may move a score of 200 items: two of them."""
TRAINED_LENGTH = 1024
DEMO = ("--models", *MODELS, "--datasets", "demo_*", "--allow-code", "--summarizer", "demo")


def reference() -> dict[str, dict[str, float]]:
    """row -> model -> its known score."""
    _, rows = read_reference(REFERENCE)
    return {row: {model: float(value) for model, value in values.items()} for row, values in rows.items()}


def table(work: Path) -> dict[str, dict[str, float]]:
    """row -> model -> score, of the only run below a work dir."""
    text = (helpers.run_folder(work) / "report/summary.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {r["dataset"]: {m: float(r[m]) for m in MODELS if r.get(m)} for r in rows}


def test_they_are_small_and_in_the_hub_layout() -> None:
    for name in ("base", "chat"):
        files = {f.name: f.stat().st_size for f in (EMBEDDED / name).iterdir()}
        assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(
            files
        )
        assert ("chat_template.jinja" in files) == (name == "chat")
        assert files["model.safetensors"] < 4_500_000
    assert sum(f.stat().st_size for f in EMBEDDED.rglob("*") if f.is_file()) < 10_000_000


def test_known_scores_are_neither_chance_nor_perfect() -> None:
    scores = reference()
    assert len(scores) == 6
    for row, values in scores.items():
        for value in values.values():
            assert CHANCE.get(row, 0.0) + CLEARLY < value < MOST, row
    assert sum(abs(v["embedded_base"] - v["embedded_chat"]) >= 1 for v in scores.values()) >= 3, "they differ"


def test_known_scores_come_out_again(tmp_path: Path) -> None:
    """Two benchmarks, of scoring and of generation; `test_whole_demo` has all."""
    chosen = ("demo_cloze_ll", "demo_code_gen")
    run = helpers.run("--models", *MODELS, "--datasets", *chosen, "--allow-code", "--work-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    found = table(tmp_path)
    for row in chosen:
        assert found[row] == pytest.approx(reference()[row], abs=NEAR), row
    replies = helpers.run_folder(tmp_path) / "replies/embedded_chat"
    again = helpers.run(
        "--models", f"recorded:{replies}", "--datasets", "demo_code_gen", "--allow-code", "--json",
        "--work-dir", tmp_path / "again",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    (headline,) = [s for s in json.loads(again.stdout)["scores"] if s["level"] == "headline"]
    assert headline["value"] == pytest.approx(found["demo_code_gen"]["embedded_chat"], abs=0.005), "its own replies"


def test_the_needle_is_lost_beyond_the_trained_length(tmp_path: Path) -> None:
    subsets = "demo_needle_gen:L512D0,L512D25,L3072D0,L3072D25"
    run = helpers.run("--models", "embedded_base", "--datasets", subsets, "--work-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    found = table(tmp_path)
    within = [v["embedded_base"] for row, v in found.items() if "L512" in row]
    beyond = [v["embedded_base"] for row, v in found.items() if "L3072" in row]
    assert statistics.mean(within) >= statistics.mean(beyond) + 40, found
    folder = helpers.run_folder(tmp_path) / "report"
    assert {f.suffix for f in folder.glob("heatmap_embedded_base_*")} == {".png", ".svg"}


WAYS = {
    "as it is": (),
    "plain batches": ("--engine-path", "plain"),
    "small batches": ("--set", "model.batch_tokens=1024"),
    "two workers": ("--max-num-workers", "2"),
    "one process": ("--debug",),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_whole_demo(way: str, tmp_path: Path) -> None:
    run = helpers.run(*DEMO, *WAYS[way], "--work-dir", tmp_path, timeout=800)
    assert run.returncode == 0, run.stderr
    found = table(tmp_path)
    for row, values in reference().items():
        assert found[row] == pytest.approx(values, abs=0.005), f"{way}: {row}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_demo_goes_on(tmp_path: Path) -> None:
    process = helpers.start(*DEMO, "--work-dir", tmp_path)
    while not any(len(helpers.reply_keys(p.parent)) > 300 for p in tmp_path.glob("*/manifest.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    before = helpers.reply_keys(helpers.run_folder(tmp_path))
    run = helpers.run(*DEMO, "--work-dir", tmp_path, timeout=800)
    assert run.returncode == 0, run.stderr
    after = helpers.reply_keys(helpers.run_folder(tmp_path))
    assert set(before) < set(after) and len(after) == len(set(after))
    found = table(tmp_path)
    assert all(found[row] == pytest.approx(values, abs=0.005) for row, values in reference().items())
