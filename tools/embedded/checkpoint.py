"""Writes a checkpoint in the hub's layout: 16-bit weights, tokenizer, generation settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from evalkit.engines.hf.load.chat_templates import CHATML
from tools.embedded.tokens import EOS, IM_END, as_transformers


def save(model: Any, inner: Any, folder: Path, chat: bool) -> None:
    """Save the weights rounded to float16; the model itself stays as it is."""
    import torch
    from transformers import GenerationConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).to(torch.float16)
    generation: Any = GenerationConfig  # untyped in transformers
    ends = [inner.token_to_id(EOS)] + ([inner.token_to_id(IM_END)] if chat else [])
    half.generation_config = generation(
        bos_token_id=half.config.bos_token_id, pad_token_id=half.config.pad_token_id, eos_token_id=ends
    )
    half.save_pretrained(folder)
    as_transformers(inner, CHATML if chat else "").save_pretrained(folder)
