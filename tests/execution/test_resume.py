"""Killed at any moment and started again, a run ends as an unbroken one does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import helpers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find workers and orphans")
DATASETS = ("--datasets", helpers.MMLU, "gsm8k_gen_17d0dc")
SPEEDS = {"fake": {"seconds": 0.02, "gen_seconds": 0.15}, "quick": {}}
Breaker = Callable[[Path, int], None]


def options(tmp_path: Path, model: str, work: str) -> list[object]:
    for name, speed in SPEEDS.items():
        helpers.fake_model(tmp_path / "configs", name, **speed)
    return [
        "--models",
        model,
        *DATASETS,
        "--config-dir",
        tmp_path / "configs",
        "--data-root",
        "samples",
        "--work-dir",
        tmp_path / work,
    ]


def wait_for_replies(work: Path, count: int, timeout: float = 60) -> None:
    """Until the run has so many answers."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        folders = [p.parent for p in work.glob("*/manifest.json")]
        if folders and len(helpers.reply_keys(folders[0])) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get going")


def kill_parent(work: Path, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def interrupt(work: Path, pid: int) -> None:
    os.kill(pid, signal.SIGINT)


def terminate(work: Path, pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("moment", [5, 40], ids=["in gen", "in ppl"])
@pytest.mark.parametrize(("breaker", "code"), [(kill_parent, -9), (interrupt, 130), (terminate, 130)])
def test_broken_run_goes_on(tmp_path: Path, breaker: Breaker, code: int, moment: int) -> None:
    args = options(tmp_path, "fake", "work")
    work = tmp_path / "work"
    process = helpers.start(*args)
    wait_for_replies(work, moment)
    breaker(work, process.pid)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    time.sleep(0.3)
    assert helpers.processes_of(str(work)) == []
    before = helpers.reply_keys(helpers.run_folder(work))
    done = helpers.run(*args)
    assert done.returncode == 0, done.stderr
    after = helpers.reply_keys(helpers.run_folder(work))
    assert len(after) == len(set(after)) == 4 * 8 * 4 + 16
    assert set(before) <= set(after) and moment <= len(before) < len(after)
    assert helpers.final_files(helpers.run_folder(work)) == unbroken(tmp_path)


def unbroken(tmp_path: Path) -> dict[str, bytes]:
    """Final files of an undisturbed run of the same model."""
    done = helpers.run(*options(tmp_path, "fake", "unbroken"), "--max-num-workers", 2)
    assert done.returncode == 0, done.stderr
    return helpers.final_files(helpers.run_folder(tmp_path / "unbroken"))


@pytest.mark.parametrize("moment", [5, 40], ids=["in gen", "in ppl"])
def test_killed_worker_is_replaced(tmp_path: Path, moment: int) -> None:
    args = options(tmp_path, "fake", "work")
    work = tmp_path / "work"
    process = helpers.start(*args)
    wait_for_replies(work, moment)
    (worker,) = [p for p in helpers.processes_of("evalkit.execution.worker") if p in helpers.processes_of(str(work))]
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    keys = helpers.reply_keys(helpers.run_folder(work))
    assert len(keys) == len(set(keys)) == 4 * 8 * 4 + 16
    assert helpers.final_files(helpers.run_folder(work)) == unbroken(tmp_path)


def test_finished_run_is_not_continued_and_new_starts_afresh(tmp_path: Path) -> None:
    args = options(tmp_path, "quick", "work")
    for extra in ([], [], ["--new"]):
        assert helpers.run(*args, *extra).returncode == 0
    assert len(list((tmp_path / "work").glob("*/manifest.json"))) == 3


def test_reuse_asks_only_for_what_is_new(tmp_path: Path) -> None:
    args = options(tmp_path, "quick", "work")
    assert helpers.run(*args, "--limit", 2).returncode == 0
    first = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert helpers.run(*args, "--limit", 4, "--reuse").returncode == 0
    both = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert len(first) == 4 * 2 * 4 + 2 and len(both) == len(set(both)) == 4 * 4 * 4 + 4


def test_changed_prompt_is_asked_again(tmp_path: Path) -> None:
    args = options(tmp_path, "quick", "work")
    assert helpers.run(*args).returncode == 0
    changed = "gsm8k_gen_17d0dc:shots.join=x"
    assert helpers.run(*args, "--reuse", "--set", changed).returncode == 0
    same = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    changed = 'gsm8k_gen_17d0dc:prompt=[shots, {user: "Q: {{ question }}"}]'
    assert helpers.run(*args, "--reuse", "--set", changed).returncode == 0
    again = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert len(again) == len(same) + 16


def test_infer_then_score(tmp_path: Path) -> None:
    args = options(tmp_path, "quick", "work")
    done = helpers.run(*args, "--mode", "infer")
    assert done.returncode == 0 and not (helpers.run_folder(tmp_path / "work") / "scores").exists()
    done = helpers.run(*args, "--mode", "score")
    assert done.returncode == 0, done.stderr
    table = done.stdout
    folder = helpers.run_folder(tmp_path / "work")
    again = helpers.run("score", folder)
    assert again.returncode == 0 and again.stdout == table


def test_two_commands_cannot_share_a_run(tmp_path: Path) -> None:
    args = options(tmp_path, "fake", "work")
    process = helpers.start(*args)
    wait_for_replies(tmp_path / "work", 3)
    second = helpers.run(*args)
    assert second.returncode == 1 and "another process is working" in second.stderr
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("moment", [3, 40], ids=["in gen", "in ppl"])
def test_real_model_goes_on_after_a_kill(tmp_path: Path, tiny_model: Path, moment: int) -> None:
    common = [
        "--hf-path", tiny_model, *DATASETS, "--data-root", "samples", "--dtype", "float32",
        "--set", "gsm8k_gen_17d0dc:gen.max_out_len=48", "model.batch_tokens=1400",
    ]  # fmt: skip
    # 1,400 tokens hold the exemplars and two slots, so that outputs end in pairs
    work = tmp_path / "work"
    process = helpers.start(*common, "--work-dir", work)
    wait_for_replies(work, moment, timeout=120)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    before = helpers.reply_keys(helpers.run_folder(work))
    done = helpers.run(*common, "--work-dir", work)
    assert done.returncode == 0, done.stderr
    after = helpers.reply_keys(helpers.run_folder(work))
    assert set(before) <= set(after) and len(before) < len(after) == len(set(after)) == 4 * 8 * 4 + 16
    assert helpers.run(*common, "--work-dir", tmp_path / "unbroken").returncode == 0
    whole, mended = (helpers.final_files(helpers.run_folder(tmp_path / w)) for w in ("unbroken", "work"))
    assert mended == whole
