"""The large random model; what the speed parts have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit.core.records import ModelSpec
from gpu_parts.models import (
    INTERNLM2_7B,
    LARGE_DTYPE,
    LARGE_DTYPE_REHEARSED,
    LARGE_REHEARSED,
    Shape,
    random_internlm2,
)
from gpu_parts.recorder import Recorder, free_memory, timed

CUBE, CUBE_REHEARSED = 8192, 256
COPY_BYTES, COPY_BYTES_REHEARSED = 4 << 30, 4 << 20


@dataclass(frozen=True)
class Peaks:
    """What the device can do at most, measured in this process."""

    flops: float
    """Of a square bfloat16 product, a second."""
    bandwidth: float
    """Bytes read and written by a copy on the device, a second."""


class LargeModel:
    """The model of the speed parts; every field is made at its first use."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.shape: Shape = LARGE_REHEARSED if recorder.small else INTERNLM2_7B
        if recorder.small and recorder.options.tokenizer:
            self.shape = replace(self.shape, vocab=INTERNLM2_7B.vocab)

    @cached_property
    def spec(self) -> ModelSpec:
        """As the command line would make it."""
        return ModelSpec("large", str(self.folder), "base", device=self.recorder.device)

    @property
    def folder(self) -> Path:
        """Where the checkpoint is written for the public command."""
        return self.recorder.options.scratch / "large"

    @cached_property
    def model(self) -> Any:
        """In memory, on the device, in eval mode."""
        dtype = LARGE_DTYPE_REHEARSED if self.recorder.small else LARGE_DTYPE
        made: list[Any] = []
        seconds = timed(lambda: made.append(random_internlm2(self.shape, self.recorder.device, dtype, seed=0)))
        self.recorder.figure("model made on the device", seconds, "s")
        return made[0]

    def drop(self) -> None:
        """Give the model's memory back."""
        self.__dict__.pop("model", None)
        free_memory()

    @cached_property
    def peaks(self) -> Peaks:
        """Measured now."""
        import torch

        recorder = self.recorder
        size = CUBE_REHEARSED if recorder.small else CUBE
        repeats = 2 if recorder.small else 20
        a = torch.randn((size, size), device=recorder.device, dtype=torch.bfloat16)
        source = torch.empty(
            COPY_BYTES_REHEARSED if recorder.small else COPY_BYTES, dtype=torch.uint8, device=recorder.device
        )
        target = torch.empty_like(source)
        timed(lambda: (a @ a, target.copy_(source)), 3)
        flops = 2 * size**3 / timed(lambda: a @ a, repeats)
        bandwidth = 2 * source.nbytes / timed(lambda: target.copy_(source), repeats)
        recorder.figure("matrix peak (bfloat16)", flops / 1e12, "TFLOP/s")
        recorder.figure("memory, read and written by a copy", bandwidth / 1e9, "GB/s")
        return Peaks(flops, bandwidth)

    def measure_peaks(self) -> None:
        """Keep what the device can do as figures."""
        _ = self.peaks

    @cached_property
    def words(self) -> Any:
        """The tokenizer with the calls that generation makes."""
        from generation import Tokens

        from evalkit.engines.tokenizer import load_tokenizer

        return Tokens(load_tokenizer(str(self.recorder.tokenizer_folder)))
