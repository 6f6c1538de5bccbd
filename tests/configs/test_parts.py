"""Benchmarks whose subsets differ in mode, data or prompt."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from evalkit.configs.benchmark import from_resolved, select
from evalkit.configs.catalog import ConfigCatalog
from evalkit.configs.merge import Override
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark
from evalkit.plan.check import load_benchmark_config
from evalkit.scoring import score as _score  # configs name steps and metrics, which this registers
from tests import helpers

__all__ = ["_score"]

CONFIG = """
mode: ppl
data: {path: rows, file: "{{ subset }}.jsonl"}
gold: answer
labels: [A, B]
prompt: "{{ question }} {{ option }}"
metric: accuracy
gen: {max_out_len: 4}
subsets: [one: {kind: choice}, two: {kind: written}, three: {kind: wide}]
parts:
  kind:
    wide: {labels: [A, B, C]}
    written: {mode: gen, prompt: "{{ question }}?", extract: [first_option_2026: AB]}
"""


def load(folder: Path, text: str = CONFIG, *overrides: Override) -> Benchmark:
    file = folder / "parted_mixed.yaml"
    file.write_text(text)
    return load_benchmark_config(file, ConfigCatalog((folder,)), overrides)


def test_each_subset_has_its_part(tmp_path: Path) -> None:
    benchmark = load(tmp_path)
    one, two, three = (benchmark.part(m.variables) for m in benchmark.members)
    assert (one, one.mode, one.labels) == (benchmark, "ppl", ("A", "B"))
    assert (two.mode, two.prompt, two.gen.max_out_len) == ("gen", "{{ question }}?", 4)
    assert (three.mode, three.labels, three.prompt) == ("ppl", ("A", "B", "C"), benchmark.prompt)
    assert benchmark.modes == {"ppl", "gen"} and select(benchmark, ["two"]).modes == {"gen"}
    assert from_resolved("parted_mixed", benchmark.resolved, benchmark.source).parts == benchmark.parts
    assert benchmark.with_draws(3).part({"kind": "written"}).gen.num_samples == 3
    set_ = Override(("parts", "kind", "written", "gen", "max_out_len"), 9)
    changed = load(tmp_path, CONFIG, set_)
    assert changed.part({"kind": "written"}).gen.max_out_len == 9 and changed.hash != benchmark.hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    wide: {", "    wise: {", "no subset has kind: wise"),
        ("    wide: {labels: [A, B, C]}", "    wide: {labels: [A]}", "yaml:12: mode ppl needs at least two labels"),
        ("    wide: {labels", "    wide: {metric: contains_gold, labels", "the parts' metrics give accuracy, score"),
        ("extract: [first_option_2026: AB]", "extract: [first_opton: AB]", "yaml:13: unknown extraction step"),
        ("    wide: {labels", "    wide: {data: {split: {x: a, y: b}}, labels", "cannot have several splits"),
        ("parts:", "parts:\n  sort: {x: {mode: gen}}", "parts go by one variable"),
    ],
)
def test_what_cannot_work_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, CONFIG.replace(old, new))
    assert message in str(caught.value)


def test_a_part_of_a_generating_benchmark_is_scored_without_extraction(tmp_path: Path) -> None:
    text = CONFIG.replace("mode: ppl", "mode: gen\nextract: [first_option_2026: AB]")
    benchmark = load(tmp_path, text.replace("wide: {", "wide: {mode: ppl, "))
    assert benchmark.extract and not benchmark.part({"kind": "wide"}).extract


def test_a_run_of_several_modes(tmp_path: Path) -> None:
    """Each subset is asked in its mode, resumed, and averaged in one row; a rescore gives the same."""
    (tmp_path / "data/rows").mkdir(parents=True)
    for name in ("one", "two", "three"):
        rows = [{"question": f"{name} {i}", "answer": "AB"[i % 2]} for i in range(6)]
        (tmp_path / f"data/rows/{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "dataset_configs").mkdir()
    load(tmp_path / "dataset_configs")
    helpers.fake_model(tmp_path, "m")
    args = ("--models", "m", "--datasets", "parted_mixed", "--config-dir", tmp_path, "--data-root", tmp_path / "data")
    done = helpers.run(*args, "--work-dir", tmp_path / "out", "--max-num-workers", 1)
    assert done.returncode == 0, done.stderr
    folder = helpers.run_folder(tmp_path / "out")
    rows = list(csv.DictReader((folder / "report/summary.csv").read_text().splitlines()))
    modes = {r["dataset"]: r["mode"] for r in rows}
    assert modes == {"parted": "mixed", "parted-one": "ppl", "parted-two": "gen", "parted-three": "ppl"}
    values = {r["dataset"]: float(r["m"]) for r in rows}
    parts = [values[f"parted-{s}"] for s in ("one", "two", "three")]
    assert values["parted"] == pytest.approx(sum(parts) / 3)
    replies = {f.name.split(".")[0]: f.read_text().splitlines() for f in (folder / "replies").rglob("*.jsonl")}
    assert {s: len(lines) for s, lines in replies.items()} == {"one": 12, "two": 6, "three": 18}
    before = helpers.final_files(folder)
    again = helpers.run("score", folder)
    assert again.returncode == 0, again.stderr
    assert helpers.final_files(folder) == before
