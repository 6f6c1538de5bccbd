"""The demo's reference table as a gate: a run passes; with a changed prompt, extraction step or weight it does not."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import helpers
from tests.builtin.test_demo import EMBEDDED, REFERENCE

ROW = "demo_arithmetic_gen"
CONFIGS = helpers.ROOT / "dataset_configs/demo"


def nothing(configs: Path) -> None:
    """Leaves everything as it is."""


def prompt(configs: Path) -> None:
    """Other words in front of the answer."""
    _edited(configs, 'lead: "Answer:"', 'lead: "Reply:"')


def extraction(configs: Path) -> None:
    """The first number of the answer in place of the last one."""
    _edited(configs, 'last_number: {none: "NULL"}', r'regex: {pattern: "\\d+"}')


def weight(configs: Path) -> None:
    """One matrix of the checkpoint, a little too small."""
    folder = configs / "checkpoint"
    shutil.copytree(EMBEDDED / "base", folder)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.2.mlp.down_proj.weight"
    tensors[name] = (tensors[name].to(torch.float32) * 0.5).to(tensors[name].dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = (helpers.ROOT / "model_configs/embedded_base.yaml").read_text(encoding="utf-8")
    (configs / "model_configs").mkdir()
    changed = config.replace("evalkit:embedded/base", str(folder))
    (configs / "model_configs/embedded_base.yaml").write_text(changed, encoding="utf-8")


def _edited(configs: Path, old: str, new: str) -> None:
    (configs / "dataset_configs").mkdir()
    text = (CONFIGS / f"{ROW}.yaml").read_text(encoding="utf-8")
    assert old in text
    (configs / f"dataset_configs/{ROW}.yaml").write_text(text.replace(old, new), encoding="utf-8")


def without_versions(folder: Path) -> Path:
    """The reference table with scores alone, as if a change had escaped the hash."""
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = folder / "scores_alone.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [k for k in rows[0] if k != "version"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table


SABOTAGE: dict[Callable[[Path], None], tuple[str, str]] = {
    nothing: ("pass", "pass"),
    prompt: ("changed", "off"),
    extraction: ("changed", "off"),
    weight: ("off", "off"),
}
"""What is done -> the verdict by the shipped table, and by one without versions."""


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda s: s.__name__)
def test_the_gate(sabotage: Callable[[Path], None], tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    sabotage(configs)
    asked = ("--models", "embedded_base", "--datasets", ROW, "--config-dir", configs, "--work-dir", tmp_path / "work")
    run = helpers.run(*asked)
    assert run.returncode == 0, run.stderr
    folder = helpers.run_folder(tmp_path / "work")
    for table, verdict in zip((REFERENCE, without_versions(tmp_path)), SABOTAGE[sabotage], strict=True):
        gate = helpers.run("regress", folder, "--reference", table, "--rows", ROW, "--models", "embedded_base")
        (line,) = [line for line in gate.stdout.splitlines() if line.startswith(ROW)]
        assert "embedded_base" in line and verdict in line, gate.stdout
        assert gate.returncode == (0 if verdict == "pass" else 1), gate.stdout


def test_a_missing_row_fails(tmp_path: Path) -> None:
    run = helpers.run("--models", "embedded_base", "--datasets", "demo_cloze_ll", "--work-dir", tmp_path)
    assert run.returncode == 0, run.stderr
    gate = helpers.run("regress", helpers.run_folder(tmp_path), "--reference", REFERENCE)
    assert gate.returncode == 1
    missing = [line.split()[0] for line in gate.stdout.splitlines() if "missing: the run has no such row" in line]
    assert ROW in missing and "demo_cloze_ll" not in missing and len(missing) == 5, gate.stdout
