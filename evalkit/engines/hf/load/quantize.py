"""Weights in 8 or 4 bits, through bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BitsAndBytesConfig

from evalkit.core.errors import ConfigError
from evalkit.core.records import ModelSpec
from evalkit.core.registry import did_you_mean

NAMES = ("8bit", "4bit")


def quantization(spec: ModelSpec, dtype: torch.dtype | str) -> Any:
    """The config that `from_pretrained` takes, None where the weights stay as they are.

    4bit is NF4 and computes in `dtype`, in bfloat16 where that is `auto`.
    Raises ConfigError for an unknown name.
    """
    asked = str(spec.options.get("quantization", ""))
    if not asked:
        return None
    if asked not in NAMES:
        raise ConfigError(f"unknown quantization {asked!r} of model {spec.name}", did_you_mean(asked, NAMES))
    make: Any = BitsAndBytesConfig  # untyped in transformers
    if asked == "8bit":
        return make(load_in_8bit=True)
    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    return make(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
