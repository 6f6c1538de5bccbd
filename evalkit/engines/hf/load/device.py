"""Devices and number formats by the names that model configs use."""

from __future__ import annotations

import re

import torch

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.core.registry import did_you_mean

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")


def pick_device(name: str, gpus: int) -> torch.device:
    """The device that `name` means here; ModelError when there is no such device.

    `auto` is CUDA where there is one, else MPS, else the CPU; it gives a CPU only where one GPU or
    none is asked for.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", name) is None:
        raise ModelError(f"unknown device {name!r}", did_you_mean(name, DEVICES))
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(index or 0) >= count:
        raise ModelError(f"device {name} is not there: {count} CUDA devices are visible", "use device: auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device mps is not there", "use device: auto")
    if gpus > 1 and (kind != "cuda" or count < gpus):
        raise ModelError(
            f"the model is to be spread over {gpus} GPUs, but {count} CUDA devices are visible",
            "lower gpus in the model config, or run where there are more",
        )
    return torch.device(name)


def pick_dtype(spec: ModelSpec, device: torch.device) -> torch.dtype | str:
    """The torch dtype, or `auto` for the checkpoint's own; ModelError when it cannot be used."""
    if spec.dtype == "auto":
        return "auto"
    if spec.dtype not in DTYPES:
        raise ModelError(
            f"unknown dtype {spec.dtype!r} of model {spec.name}", did_you_mean(spec.dtype, ["auto", *DTYPES])
        )
    dtype = DTYPES[spec.dtype]
    if device.type == "cuda" and dtype is torch.bfloat16 and not torch.cuda.is_bf16_supported():
        raise ModelError(f"{device} cannot compute in bfloat16", "use dtype: float16 or float32")
    return dtype
