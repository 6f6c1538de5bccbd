"""Families that are loaded by code of our own instead of a checkpoint's remote code.

A family belongs here when its checkpoints name a `model_type` that transformers does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from evalkit.types import ModelSpec


@dataclass(frozen=True)
class NativeFamily:
    """How to load the checkpoints of one `model_type`."""

    load_tokenizer: Callable[[ModelSpec], Any]
    """Gives a transformers tokenizer."""
    load_model: Callable[[ModelSpec, Mapping[str, Any]], tuple[Any, Mapping[str, Any]]]
    """Takes the keyword arguments meant for `from_pretrained`; gives the model and the loading
    report of `output_loading_info` (`missing_keys`, `unexpected_keys`)."""


NATIVE: Mapping[str, NativeFamily] = MappingProxyType({})
"""`model_type` of config.json → family."""
