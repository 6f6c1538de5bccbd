"""Families that are loaded by code of our own instead of a checkpoint's remote code.

A family belongs here when its checkpoints name a `model_type` that transformers does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from transformers import CONFIG_MAPPING

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.hf.internlm.model import INTERNLM1, INTERNLM2, load_internlm
from evalkit.engines.hf.internlm.tokenizer import load_internlm_tokenizer


@dataclass(frozen=True)
class NativeFamily:
    """How to load the checkpoints of one `model_type`."""

    load_tokenizer: Callable[[ModelSpec], Any]
    """Gives a transformers tokenizer."""
    load_model: Callable[[ModelSpec, Mapping[str, Any]], tuple[Any, Mapping[str, Any]]]
    """Takes the keyword arguments meant for `from_pretrained`; gives the model and the loading
    report of `output_loading_info` (`missing_keys`, `unexpected_keys`)."""


INTERNLM = NativeFamily(load_internlm_tokenizer, load_internlm)
NATIVE: Mapping[str, NativeFamily] = MappingProxyType({INTERNLM1: INTERNLM, INTERNLM2: INTERNLM})
"""`model_type` of config.json → family."""


def find_family(raw: Mapping[str, Any], path: str) -> NativeFamily | None:
    """The family of a config.json, None for what transformers knows or the checkpoint's own code does.

    ModelError for the multimodal variants of InternLM, whose own code does not work with transformers 5.
    """
    kind = str(raw.get("model_type", ""))
    if kind in NATIVE:
        return NATIVE[kind]
    if kind.lower().startswith("internlm") and kind not in CONFIG_MAPPING:
        stated = ", ".join(map(str, raw.get("architectures") or [kind]))
        raise ModelError(
            f"{path} is {stated} (model_type {kind}), not a language model of InternLM",
            "multimodal variants are not supported; give a checkpoint of InternLM 1, 2, 2.5 or 3",
        )
    return None
