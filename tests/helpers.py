"""Runs the command line as a user does, and reads what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MMLU = "mmlu_ppl_ac766d:abstract_algebra,anatomy,astronomy,college_biology"
"""The subsets that the project's own sample data has."""


def environment(**more: str) -> dict[str, str]:
    """The tests' environment without what would redirect evalkit."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EVALKIT_")}
    return {**kept, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", **more}


def command(*args: object) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *map(str, args)]


def run(*args: object, cwd: Path | None = None, timeout: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
    """The finished command."""
    return subprocess.run(
        command(*args), capture_output=True, text=True, cwd=cwd or ROOT, timeout=timeout, env=environment(**env)
    )


def start(*args: object, **env: str) -> subprocess.Popen[str]:
    """The command at work, in a process group of its own."""
    return subprocess.Popen(
        command(*args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**env),
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell's background job ignores Ctrl-C, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def fake_model(folder: Path, name: str, **options: object) -> None:
    """A model config with the engine that answers from digests."""
    lines = [f"path: {options.pop('path', 'fake')}", f"kind: {options.pop('kind', 'base')}", "engine: fake", "options:"]
    lines += [f"  {key}: {json.dumps(value)}" for key, value in {"seconds": 0.0, **options}.items()]
    target = folder / "model_configs"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{name}.yaml").write_text("\n".join(lines) + "\n")


def run_folder(work_dir: Path) -> Path:
    """The only run below a work dir."""
    (folder,) = [p.parent for p in work_dir.glob("*/manifest.json")]
    return folder


def final_files(folder: Path) -> dict[str, bytes]:
    """Scores and report files by relative path."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for part in ("scores", "report")
        for p in sorted((folder / part).rglob("*"))
        if p.is_file()
    }


def reply_keys(folder: Path) -> list[str]:
    """Keys of all whole reply lines, in any order; one that stands twice was asked twice."""
    keys = []
    for path in (folder / "replies").rglob("*.jsonl"):
        for line in path.read_bytes().split(b"\n"):
            try:
                keys.append(json.loads(line)["key"])
            except ValueError:
                continue
    return keys


def processes_of(mark: str) -> list[int]:
    """Ids of living processes whose command line holds `mark` (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes().decode(errors="replace")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in text and state != "Z":
            found.append(int(path.name))
    return found
