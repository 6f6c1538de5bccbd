"""The large checkpoint, loaded by evalkit's own loader; what the speed parts have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evalkit.core.records import ModelSpec
from gpu_parts.lab import Lab, timed
from gpu_parts.models import INTERNLM2_7B, LARGE_REHEARSED, Shape

CUBE, CUBE_REHEARSED = 8192, 256
COPY_BYTES, COPY_BYTES_REHEARSED = 4 << 30, 4 << 20


@dataclass(frozen=True)
class Peaks:
    """What the device can do at most, measured in this process."""

    flops: float
    """Of a square bfloat16 product, a second."""
    bandwidth: float
    """Bytes read and written by a copy on the device, a second."""


class LoadedModel:
    """The model of the speed parts; every field is made at its first use."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.shape: Shape = LARGE_REHEARSED if lab.small else INTERNLM2_7B

    @cached_property
    def spec(self) -> ModelSpec:
        """As the command line would make it."""
        return ModelSpec("large", str(self.lab.setup.weights), "base", device=self.lab.device)

    @cached_property
    def model(self) -> Any:
        """In eval mode on the device."""
        from evalkit.engines.hf.load.load import load

        loaded = []
        seconds = timed(lambda: loaded.append(load(self.spec)))
        self.lab.figure("checkpoint to device", seconds, "s")
        return loaded[0].model

    @cached_property
    def peaks(self) -> Peaks:
        """Measured now."""
        import torch

        lab = self.lab
        size = CUBE_REHEARSED if lab.small else CUBE
        repeats = 2 if lab.small else 20
        a = torch.randn((size, size), device=lab.device, dtype=torch.bfloat16)
        source = torch.empty(COPY_BYTES_REHEARSED if lab.small else COPY_BYTES, dtype=torch.uint8, device=lab.device)
        target = torch.empty_like(source)
        timed(lambda: (a @ a, target.copy_(source)), 3)
        flops = 2 * size**3 / timed(lambda: a @ a, repeats)
        bandwidth = 2 * source.nbytes / timed(lambda: target.copy_(source), repeats)
        lab.figure("matrix peak (bfloat16)", flops / 1e12, "TFLOP/s")
        lab.figure("memory, read and written by a copy", bandwidth / 1e9, "GB/s")
        return Peaks(flops, bandwidth)

    def measure_peaks(self) -> None:
        """Keep what the device can do as figures."""
        _ = self.peaks

    @cached_property
    def words(self) -> Any:
        """The tokenizer with the calls that generation makes."""
        from generation import Tokens

        from evalkit.engines.tokenizer import load_tokenizer

        return Tokens(load_tokenizer(str(self.lab.tokenizer_folder)))
