"""Workers that hang, freeze or die of one sample; and what `status` tells meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
PAIR = ("--datasets", helpers.MMLU, "--data-root", "samples")
TOTAL = 4 * 8 * 4


def command(tmp_path: Path, **options: Any) -> list[object]:
    helpers.fake_model(tmp_path / "configs", "m", **options)
    return ["--models", "m", *PAIR, "--config-dir", tmp_path / "configs", "--work-dir", tmp_path / "work"]


def first_words(subset: str, index: int) -> str:
    """A part of one sample's prompt that no other sample has."""
    from evalkit.api import load_benchmark

    sample = load_benchmark(helpers.MMLU, "samples").samples(subset)[index]
    return str(sample.row["input"])


def workers_of(work: Path) -> list[int]:
    return [p for p in helpers.processes_of("evalkit.execution.worker") if p in helpers.processes_of(str(work))]


def wait(check: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("nothing came of it")


def test_a_sample_that_kills_its_worker_is_left_out_alone(tmp_path: Path) -> None:
    args = command(tmp_path, crash_on=first_words("astronomy", 3))
    done = helpers.run(*args)
    assert done.returncode == 1
    assert "31/32" in done.stdout and "failed: 1 job of m: the worker ended with status 9" in done.stdout
    keys = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert len(keys) == len(set(keys)) and TOTAL - 4 <= len(keys) < TOTAL


def test_a_stopped_worker_is_replaced(tmp_path: Path) -> None:
    args = command(tmp_path, seconds=0.02)
    process = helpers.start(*args, "--stall-timeout", 3)
    (worker,) = wait(lambda: helpers_of_run(tmp_path) and workers_of(tmp_path / "work"))
    os.kill(worker, signal.SIGSTOP)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    keys = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert len(keys) == len(set(keys)) == TOTAL and helpers.processes_of(str(tmp_path / "work")) == []


def helpers_of_run(tmp_path: Path) -> bool:
    """Whether answers have begun to come."""
    return any(helpers.reply_keys(p.parent) for p in (tmp_path / "work").glob("*/manifest.json"))


def test_a_sample_that_hangs_is_left_out_alone(tmp_path: Path) -> None:
    args = command(tmp_path, hang_on=first_words("anatomy", 0))
    done = helpers.run(*args, "--stall-timeout", 2)
    assert done.returncode == 1 and "31/32" in done.stdout
    assert "no progress for 2 s" in done.stdout and "--stall-timeout" in done.stdout


def test_status_tells_from_another_terminal(tmp_path: Path) -> None:
    args = command(tmp_path, seconds=0.05)
    process = helpers.start(*args)
    work = tmp_path / "work"

    def ask() -> dict[str, Any]:
        done = helpers.run("status", "--json", "--work-dir", work)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def half_way() -> dict[str, Any]:
        found = ask()
        return found if found and any(p["running"] and p["done"] for p in found["parts"]) else {}

    found = wait(half_way)
    assert found["state"] == "running" and found["seconds_left"] > 0
    assert [(p["model"], p["samples"]) for p in found["parts"]] == [("m", 32)]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    text = helpers.run("status", "--work-dir", work).stdout
    assert "broken off" in text and "continues it" in text
    assert helpers.run(*args).returncode == 0
    found = ask()
    assert found["state"] == "complete" and found["seconds_left"] is None
    assert all(p["done"] == p["samples"] for p in found["parts"])
    assert helpers.run("status", "nothing", "--work-dir", work).returncode != 0


def test_a_worker_that_is_stopped_at_birth_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from evalkit.execution.local import LocalWorker\n"
        "from evalkit.results.store import RunStore\n"
        "worker = LocalWorker(RunStore(Path(sys.argv[1])), 'm', 'w1', None, 1)\n"
        "os.kill(worker.process.pid, signal.SIGSTOP)\n"
        "print(worker.process.pid, flush=True)\n"
        "os._exit(0)\n"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, cwd=helpers.ROOT)
    assert done.stdout.strip().isdigit(), done.stderr
    wait(lambda: helpers.processes_of(str(folder)) == [])
