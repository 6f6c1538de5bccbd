"""The self-check in half precision, where right and wrong numbers are closer together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from evalkit.engines.hf.score import self_check as check
from evalkit.engines.hf.score.forward import Attention
from evalkit.engines.hf.score.self_check import try_tree
from evalkit.engines.hf.tiny import fill_random

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
HALF = [torch.bfloat16, torch.float16]


def filled(model: Any, dtype: torch.dtype) -> Any:
    fill_random(model, 3, 0.1)
    return model.eval().to(dtype)


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_passes(dtype: torch.dtype) -> None:
    for model in (LlamaForCausalLM(LlamaConfig(**SIZES)), MistralForCausalLM(MistralConfig(**SIZES))):
        assert try_tree(filled(model, dtype), 0).name == "tree"


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_a_forgotten_window_does_not(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = filled(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=16)), dtype)
    monkeypatch.setattr(check, "attention_of", lambda _config: (Attention({"": None}), ""))
    path = try_tree(model, 0)  # the mask of layers without a window
    assert path.name == "plain" and "disagrees" in path.reason
