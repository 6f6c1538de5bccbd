"""Signals at random moments to workers and parent, over ppl, gen and code benchmarks.

Every round the run goes on from where the last one broke it off; in the end it is the undisturbed one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import helpers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
DATASETS = (helpers.MMLU, "gsm8k_gen_17d0dc", "deprecated_humaneval_gen_d2537e")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)


def command(tmp_path: Path, seconds: float) -> list[object]:
    helpers.fake_model(tmp_path / "configs", "m", seconds=seconds)
    return [
        "--models", "m", "--datasets", *DATASETS, "--data-root", "samples", "--config-dir", tmp_path / "configs",
        "--allow-code", "--max-num-workers", 2, "--stall-timeout", 4,
    ]  # fmt: skip


def disturb(rng: random.Random, process: subprocess.Popen[str], work: Path) -> str:
    """One signal to the parent or to a worker; what was done."""
    workers = [p for p in helpers.processes_of("evalkit.execution.worker") if p in helpers.processes_of(str(work))]
    target = rng.choice([process.pid, *workers])
    number = rng.choice(SIGNALS)
    try:
        os.kill(target, number)
    except ProcessLookupError:
        return "too late"
    if target == process.pid and number == signal.SIGSTOP:
        time.sleep(rng.random())
        os.kill(target, rng.choice([signal.SIGCONT, signal.SIGKILL]))
    return f"{number.name} to {'parent' if target == process.pid else 'worker'}"


def rounds(tmp_path: Path, count: int, seed: int) -> None:
    rng, work, done = random.Random(seed), tmp_path / "work", list[str]()
    # slow enough that a round ends in the middle
    args = [*command(tmp_path, 0.01 + 0.004 * count), "--work-dir", work]
    for _ in range(count):
        process = helpers.start(*args)
        time.sleep(0.6 + 2 * rng.random())
        done.append(disturb(rng, process, work))
        try:
            process.wait(timeout=1 + 2 * rng.random())
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        time.sleep(0.3)
        assert helpers.processes_of(str(work)) == [], done
    quick = [*command(tmp_path, 0.0), "--work-dir", work]
    folders = list(work.glob("*/manifest.json"))
    unfinished = [p for p in folders if '"status": "complete"' not in p.read_text()]
    last = helpers.run(*quick)
    assert last.returncode == 0, (done, last.stderr)
    assert all('"status": "complete"' in p.read_text() for p in work.glob("*/manifest.json")), done
    whole = helpers.run(*quick, "--new", "--work-dir", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    expected = helpers.final_files(helpers.run_folder(tmp_path / "whole"))
    assert expected
    for manifest in [*folders, *work.glob("*/manifest.json")]:
        if '"status": "complete"' in manifest.read_text():
            keys = helpers.reply_keys(manifest.parent)
            assert len(keys) == len(set(keys)), done
            assert helpers.final_files(manifest.parent) == expected, done
    assert len(unfinished) <= 1, done
    assert not list(work.rglob("*.tmp")), done
    assert helpers.run("status", "--work-dir", work).stdout.count("complete") == 1


def test_five_rounds(tmp_path: Path) -> None:
    rounds(tmp_path, 5, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_thirty_rounds(tmp_path: Path, seed: int) -> None:
    """Ten rounds on each of three runs."""
    rounds(tmp_path, 10, seed=100 + seed)
