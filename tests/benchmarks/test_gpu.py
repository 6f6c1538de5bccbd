"""benchmarks/gpu.py, rehearsed on the CPU: every part has its figures, and a fault in one costs the others nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("correct", "scoring", "generation", "long")
STEPS = {
    "correct": {
        *(f"{family}_{dtype}" for family in ("llama", "qwen3", "gemma3_text") for dtype in ("float32", "bfloat16")),
        *("workers", "memory"),
    },
    "scoring": {"peak", "tree", "padded", "profile", "option_texts", "public"},
    "generation": {"fits", "slots_4", "slots_2", "padded", "decode_step", "transformers"},
    "long": {"all_layers_512", "few_layers", "prefill_512", "prefill_1024", "prefill_1536", "needle"},
}
LIMIT = 540
"""Seconds that the whole script may take on a device."""
PATIENCE = 20.0
"""Factor on the time limits: a machine that runs tests may be busy."""


@dataclass(frozen=True)
class Rehearsal:
    """One call of the script."""

    status: int
    output: str
    out: Path

    def part(self, name: str) -> Mapping[str, Any]:
        """What a part has left."""
        part: Mapping[str, Any] = json.loads((self.out / f"{name}.json").read_text(encoding="utf-8"))
        return part


def rehearse(out: Path, *arguments: str) -> Rehearsal:
    """Run the script with tiny models."""
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "gpu.py"), "--rehearse", "--out", str(out)]
    command += ["--scale", f"{PATIENCE}", "--total", f"{PATIENCE * LIMIT}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent)
    tails = [log.read_text(encoding="utf-8")[-3000:] for log in sorted(out.glob("*.log"))]
    return Rehearsal(done.returncode, "\n".join([done.stdout[-6000:], done.stderr, *tails]), out)


def figures(part: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """(step, name) → value."""
    return {(figure["step"], figure["name"]): figure["value"] for figure in part["figures"]}


@pytest.mark.timeout(1500)
def test_the_rehearsal_passes_and_covers_every_part(tmp_path: Path) -> None:
    """What runs here is what runs on a device, with other sizes; figures that a limit is set for are inside it."""
    run = rehearse(tmp_path / "out")
    assert run.status == 0, run.output
    for name in PARTS:
        part = run.part(name)
        assert part["good"] and part["finished"] and not part["faults"], (name, part["faults"])
        assert {step["name"] for step in part["steps"]} == STEPS[name]
        measured = {figure["step"] for figure in part["figures"]}
        assert measured >= STEPS[name], (name, STEPS[name] - measured)
    correct = figures(run.part("correct"))
    assert correct["llama_float32", "cpu tree: path"] == "tree, stream"
    assert correct["workers", "workers seen"] == 2
    assert correct["workers", "replies at the kill"] < correct["workers", "replies"]
    assert correct["memory", "tree: times out of memory"] > 0 < correct["memory", "plain: times out of memory"]
    scoring = figures(run.part("scoring"))
    assert scoring["tree", "unique tokens"] < scoring["tree", "tokens sent by padded batches"]
    assert run.part("scoring")["attachments"].keys() == {"operators", "python"}
    generation = figures(run.part("generation"))
    assert generation["slots_4", "tokens generated"] == generation["fits", "tokens to generate"]
    assert generation["transformers", "runs"] == "True"
    assert figures(run.part("long"))["needle", "shared: answered"] == 3
    table = (run.out / "table.txt").read_text(encoding="utf-8")
    assert all(f"\n{name}: passed" in f"\n{table}" for name in PARTS)


@pytest.mark.timeout(1500)
def test_a_fault_in_each_part_leaves_the_figures_of_the_others(tmp_path: Path) -> None:
    """An exception, a dead process, a part that hangs: what a part measured before and all the others are kept."""
    cheap = ("correct:llama_float32", "scoring:peak,tree", "generation:fits,slots_2", "long:all_layers_512,few_layers")
    faults = ("correct=raise", "scoring=die", "generation=hang", "long=raise")
    planted = [word for fault in faults for word in ("--fault", fault)]
    run = rehearse(tmp_path / "out", "--only", *cheap, *planted, "--part-limit", "generation=20")
    assert run.status == 1, run.output
    parts = {name: run.part(name) for name in PARTS}
    assert not any(part["good"] for part in parts.values())
    # an exception costs its own step: the next one has run
    assert ("llama_float32", "cpu tree: largest loss difference") in figures(parts["correct"])
    assert [step["name"] for step in parts["long"]["steps"]] == ["all_layers_512", "few_layers"]
    for name in ("correct", "long"):
        assert [fault["step"] for fault in parts[name]["faults"]] == ["planted"], run.output
        assert "planted fault" in parts[name]["faults"][0]["traceback"]
    # a dead process keeps what it had measured
    assert parts["scoring"]["outcome"] == "ended with status -9", run.output
    assert set(figures(parts["scoring"])) >= {("peak", "matrix peak (bfloat16)")}
    # whatever a part was doing when its time was over, the others do not suffer
    assert parts["generation"]["outcome"] == "stopped after its time limit of 20 s", run.output
    assert "FAILED stopped after its time limit" in (run.out / "table.txt").read_text(encoding="utf-8")


def test_what_cannot_be_imported_or_does_not_exist_is_a_fault_of_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from gpu_parts.recorder import PartOptions, Recorder, read_part

    def lacking() -> dict[str, Callable[[], None]]:
        raise ModuleNotFoundError("No module named 'flash_attn'")

    options = PartOptions("long", tmp_path, tmp_path, "samples", None, True, 1e12, ("nothing",), "")
    loaders: dict[str, Callable[[], dict[str, Callable[[], None]]]] = {
        "ModuleNotFoundError: No module named 'flash_attn'": lacking,
        "ValueError: no step 'nothing'; steps: one": lambda: {"one": lambda: None},
    }
    for message, load in loaders.items():
        Recorder(options).run(load)
        part = read_part(tmp_path, "long", "")
        assert [fault["error"] for fault in part["faults"]] == [message]
        assert part["finished"] and not part["good"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "fast"], "unknown part 'fast'"),
        (["--fault", "long=break"], "--fault long=break: give one of"),
        (["--part-limit", "long=soon"], "--part-limit long=soon: give one of"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_runs(tmp_path: Path, arguments: list[str], message: str) -> None:
    run = rehearse(tmp_path / "out", *arguments)
    assert run.status not in (0, -9)
    assert message in run.output


def test_without_a_rehearsal_the_data_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVALKIT_DATA", raising=False)
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "gpu.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "name the data" in done.stderr


def test_the_time_limits_fit_nine_minutes() -> None:
    code = "import gpu; print(sum(gpu.LIMITS.values()), gpu.TOTAL, *gpu.LIMITS)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY / "benchmarks"
    )
    total, whole, *names = done.stdout.split()
    assert int(total) <= int(whole) <= LIMIT
    assert tuple(names) == PARTS
