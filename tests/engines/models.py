"""Random models of any family that transformers knows, small enough to compare ways of running them."""

from __future__ import annotations

from typing import Any

import transformers

from evalkit.engines.hf.tiny import fill_random

VOCAB = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
OLD: dict[str, Any] = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2}
"""For configs that give the sizes names of their own."""


def build(config: str, model: str, fields: dict[str, Any]) -> Any:
    """A random float32 model from the names of its classes."""
    made = getattr(transformers, model)(getattr(transformers, config)(**fields)).eval()
    fill_random(made, seed=3, scale=0.3)
    return made
