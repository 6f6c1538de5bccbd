"""Which CUDA devices a run may use, and what its workers see of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalkit.core.records import ModelSpec
from evalkit.execution import devices


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without devices and without nvidia-smi; its folder of device files."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(devices, "DEVICE_FILES", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", []),
        ("-1", []),
        ("0,1", ["0", "1"]),
        (" 2 , 0", ["2", "0"]),
        ("0,-1,1", ["0"]),
        ("0,0", ["0", "0"]),
        ("GPU-8932f937,MIG-7f2a", ["GPU-8932f937", "MIG-7f2a"]),
    ],
)
def test_visible_devices_are_read_as_cuda_does(
    visible: str, expected: list[str], machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for a device that is named twice, which gives two workers on it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.cuda_devices() == expected


def test_without_nvidia_smi_the_device_files_are_counted(machine: Path) -> None:
    assert devices.cuda_devices() == []
    for name in ("nvidia2", "nvidia5", "nvidiactl", "nvidia-uvm"):
        (machine / name).touch()
    assert devices.cuda_devices() == ["0", "1"]
    assert devices.uses_cuda(ModelSpec("m", ".", "base"), devices.cuda_devices())
    assert not devices.uses_cuda(ModelSpec("m", ".", "base", device="cpu"), devices.cuda_devices())


def test_nvidia_smi_is_believed(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "nvidia0").touch()
    tool = machine / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    for script, expected in (("echo 0; echo 1", ["0", "1"]), ("echo no driver; exit 9", [])):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert devices.cuda_devices() == expected


def test_a_worker_sees_its_devices_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    on_device = devices.worker_environment(["3", "GPU-1"], 4)
    assert (on_device["CUDA_VISIBLE_DEVICES"], on_device["OMP_NUM_THREADS"]) == ("3,GPU-1", "4")
    on_cpu = devices.worker_environment(None, 32)
    assert "CUDA_VISIBLE_DEVICES" not in on_cpu and on_cpu["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert devices.worker_environment(["0"], 4)["OMP_NUM_THREADS"] == "7"
