"""The checkpoint that the speed parts load: InternLM2-7B's shape and layout, random, bfloat16."""

from __future__ import annotations

import time

from gpu_parts.lab import Lab, Steps
from gpu_parts.models import (
    INTERNLM2_7B,
    LARGE_DTYPE,
    LARGE_DTYPE_REHEARSED,
    LARGE_REHEARSED,
    is_complete,
    write_internlm2,
)


def steps(lab: Lab) -> Steps:
    """One step: write it where it is not there yet."""

    def write() -> None:
        shape = LARGE_REHEARSED if lab.small else INTERNLM2_7B
        folder = lab.setup.weights
        if is_complete(folder, shape):
            lab.figure("already there", str(folder))
            return
        began = time.perf_counter()
        dtype = LARGE_DTYPE_REHEARSED if lab.small else LARGE_DTYPE
        size = write_internlm2(folder, shape, lab.tokenizer_folder, lab.device, dtype, seed=0)
        lab.figure("made on the device and written", time.perf_counter() - began, "s", note=str(folder))
        lab.figure("size", size / 1e9, "GB")

    return {"write": write}
