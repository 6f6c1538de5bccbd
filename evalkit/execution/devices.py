"""The CUDA devices of this machine, listed without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path

from evalkit.core.records import ModelSpec
from evalkit.engines.catalog import entry_of

DEVICE_FILES = Path("/dev")
"""Where each CUDA device has a file called nvidia and its number."""


def cuda_devices() -> list[str]:
    """Ids of the CUDA devices that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # as CUDA reads it: what stands behind an id that is none is not visible
        return list(takewhile(lambda device: device not in ("", "-1"), map(str.strip, visible.split(","))))
    if shutil.which("nvidia-smi") is None:
        # containers have the devices, and not always the tool; CUDA counts those that are there
        return [str(number) for number, _ in enumerate(DEVICE_FILES.glob("nvidia[0-9]*"))]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()] if listed.returncode == 0 else []


def uses_cuda(spec: ModelSpec, devices: list[str]) -> bool:
    """Whether a model's workers take CUDA devices of these."""
    return bool(devices) and takes_devices(spec)


def takes_devices(spec: ModelSpec) -> bool:
    """Whether a model's workers compute on CUDA devices wherever there are any."""
    return spec.device in ("auto", "cuda") and entry_of(spec).uses_device


def worker_environment(devices: list[str] | None, workers: int) -> dict[str, str]:
    """Variables of a worker: its devices, and its share of the cores, on which workers with a device compute, too."""
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
    values = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if devices is not None:
        values["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    threads = max(1, (os.cpu_count() or 1) // max(1, workers))
    return {**values, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
