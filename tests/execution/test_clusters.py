"""Real Ray nodes and a real Slurm on this machine: something is killed in the middle, nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.records import Job
from evalkit.execution.slurm import balanced, element_states
from tests import helpers

TOTAL = 4 * 8 * 4 + 16
PAIRS = ("--datasets", helpers.MMLU, "gsm8k_gen_17d0dc", "--data-root", "samples")
ROOT = hasattr(os, "getuid") and os.getuid() == 0
needs_ray = pytest.mark.skipif(
    not (ROOT and find_spec("ray")), reason="needs root and Ray (pip install 'evalkit[ray]')"
)
SLURM = ("slurmctld", "slurmd", "munged")
has_slurm = all(shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") for name in SLURM)
needs_slurm = pytest.mark.skipif(
    not (ROOT and has_slurm and find_spec("submitit")),
    reason="needs root, Debian's slurm-wlm and munge, and submitit (pip install 'evalkit[slurm]')",
)


def on_cluster(tmp_path: Path, tool: str, count: int, breaker: str, *more: object, **options: Any) -> Path:
    """The folder of a finished run on a cluster that `breaker` disturbed when there were `count` answers."""
    helpers.fake_model(tmp_path / "configs", "m", seconds=0.12, **options)
    args = ["--models", "m", *PAIRS, "--config-dir", tmp_path / "configs", *more]
    inner = [sys.executable, "-m", "tests.execution.cluster_run", tmp_path / "work", count, breaker, *args]
    done = subprocess.run(
        [str(helpers.ROOT / "tools" / tool), *map(str, inner)],
        capture_output=True,
        text=True,
        cwd=helpers.ROOT,
        timeout=240,
        env=helpers.environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", PYTHONPATH=str(helpers.ROOT)
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return helpers.run_folder(tmp_path / "work")


def check_equal_to_local(tmp_path: Path, folder: Path) -> None:
    keys = helpers.reply_keys(folder)
    assert len(keys) == len(set(keys)) == TOTAL
    args = ["--models", "m", *PAIRS, "--config-dir", tmp_path / "configs", "--work-dir", tmp_path / "local"]
    helpers.fake_model(tmp_path / "configs", "m")
    assert helpers.run(*args).returncode == 0
    assert helpers.final_files(folder) == helpers.final_files(helpers.run_folder(tmp_path / "local"))


def writers(folder: Path) -> set[str]:
    """The workers that answered anything."""
    return {path.name.split(".")[-2] for path in (folder / "replies").rglob("*.jsonl")}


@needs_ray
@pytest.mark.timeout(300)
def test_a_ray_node_dies(tmp_path: Path) -> None:
    more = ("--runner", "ray", "--ray-address", "127.0.0.1:6399", "--max-num-workers", 4)
    folder = on_cluster(tmp_path, "ray_two_nodes.sh", 20, "kill -9 $RAY_SECOND_NODE", *more)
    check_equal_to_local(tmp_path, folder)
    assert len(writers(folder)) >= 4


@needs_slurm
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["scancel", "scontrol requeue"])
def test_a_slurm_worker_is_cancelled_or_requeued(tmp_path: Path, how: str) -> None:
    last = "$(squeue --noheader --array --states RUNNING --format %i | sort | tail -n 1)"
    more = ("--runner", "slurm", "--partition", "all", "--max-num-workers", 3)
    folder = on_cluster(tmp_path, "slurm_here.sh", 20, f"{how} {last}", *more)
    check_equal_to_local(tmp_path, folder)
    # A requeued element goes on as itself; a cancelled one's jobs go to new ones, as many as have work left.
    assert len(writers(folder)) in ((3,) if "requeue" in how else (4, 5, 6))


@needs_slurm
def test_slurm_gives_devices_to_a_worker_of_several(tmp_path: Path) -> None:
    """Each element sees its own two of the four."""
    script = "from tests.execution.test_clusters import submit_devices; submit_devices()"
    done = subprocess.run(
        [str(helpers.ROOT / "tools" / "slurm_here.sh"), sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=helpers.ROOT,
        timeout=120,
        env=helpers.environment(PYTHONPATH=str(helpers.ROOT)),
    )
    assert done.returncode == 0, done.stderr
    seen = sorted(line for line in done.stdout.splitlines() if line.startswith("devices "))
    assert seen == ["devices 0,1", "devices 2,3"]


def devices() -> str:
    """What a Slurm element sees, after a while in which the other one holds its own."""
    import time

    time.sleep(3)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "none")


def submit_devices() -> None:
    """Two elements of two devices each, through the runner's own executor; prints what each saw."""
    import tempfile

    from evalkit.core.records import ModelSpec
    from evalkit.execution.runner import Limits
    from evalkit.execution.slurm import SlurmLauncher, SlurmOptions
    from evalkit.results.store import RunStore

    with tempfile.TemporaryDirectory() as folder:
        launcher = SlurmLauncher(RunStore(Path(folder)), Limits(2), SlurmOptions("all"))
        for job in launcher.submitter(ModelSpec("m", "p", "base", gpus=2)).submit_array([devices, devices]):
            print("devices", job.result())


def test_balanced_parts() -> None:
    jobs = [Job(i, "m", "b", "s", 0, 10, cost) for i, cost in enumerate([8.0, 7.0, 3.0, 3.0, 2.0, 1.0])]
    parts = balanced(jobs, 3)
    assert sorted(job.id for part in parts for job in part) == list(range(6))
    assert sorted(sum(job.cost for job in part) for part in parts) == [8.0, 8.0, 8.0]
    assert len(balanced(jobs[:2], 5)) == 2


@pytest.mark.skipif(shutil.which("squeue") is not None, reason="a real squeue is here")
def test_squeue_absent_is_an_error() -> None:
    with pytest.raises(OSError, match="squeue"):
        element_states(["1"])


@pytest.mark.parametrize(("runner", "tool"), [("ray", "ray"), ("slurm", "sbatch")])
def test_a_runner_that_is_not_installed_says_so(tmp_path: Path, runner: str, tool: str) -> None:
    helpers.fake_model(tmp_path / "configs", "m")
    args = ["--models", "m", *PAIRS, "--config-dir", tmp_path / "configs", "--work-dir", tmp_path, "--runner", runner]
    hidden = {"PATH": "/nowhere"} if runner == "slurm" else {"PYTHONPATH": str(_without_ray(tmp_path))}
    done = helpers.run(*args, **hidden)
    assert done.returncode == 2 and tool in done.stderr and "Traceback" not in done.stderr


def _without_ray(tmp_path: Path) -> Path:
    """A folder that hides Ray."""
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "ray.py").write_text("raise ImportError('hidden')\n")
    return tmp_path / "hide"
