"""Attention in two parts: keys that all rows share, and each row's own keys.

Registered with transformers' AttentionInterface under `NAME`. The shared keys are kept once, without a
batch dimension, so that a step reads them once for all rows; the softmax runs over both parts together,
so that the result is that of ordinary attention over `[shared | own]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "evalkit_shared_prefix"
_MARK = "evalkit_part"
CHANGES_SCORES = ("position_bias", "s_aux", "sinks", "head_mask", "alibi")


class UnfitError(RuntimeError):
    """A model attends in a way that the two parts do not cover."""


@dataclass(frozen=True)
class Part:
    """What one layer's attention needs besides the rows' own keys."""

    keys: torch.Tensor
    """Keys of the shared prefix, [kv_heads, prefix, size]."""
    values: torch.Tensor
    """Values of the shared prefix, [kv_heads, prefix, size]."""
    bias: torch.Tensor
    """Added to the scores of the own keys: 0 where seen, -inf where not; [rows, 1, 1, queries, own]."""
    longest: int
    """Most positions, shared and own, that a query of this step can see."""


def mark(keys: torch.Tensor, part: Part) -> torch.Tensor:
    """The own keys with the rest on them: models pass on to attention what the cache gave them.

    Not every model passes further arguments through its layers; all pass the keys.
    """
    setattr(keys, _MARK, part)
    return keys


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output [rows, queries, heads, size], as transformers calls it.

    `query` is [rows, heads, queries, size]; `key` and `value` are the own parts, [rows, kv_heads, own,
    size], as a cache of `slots.Slots` gave them. Head h reads the keys of kv_head h // (heads / kv_heads).
    """
    part = _checked(key, sliding_window, others)
    rows, heads, queries, size = query.shape
    kv_heads, own = key.shape[1], key.shape[2]
    shared, per_kv = part.keys.shape[1], heads // kv_heads * queries
    scaled = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows, kv_heads, per_kv, size)
    # one product for all rows: the shared keys are read once
    folded = scaled.transpose(0, 1).reshape(kv_heads, rows * per_kv, size)
    front = torch.bmm(folded, part.keys.transpose(1, 2)).view(kv_heads, rows, per_kv, shared)
    scores = torch.cat([front.transpose(0, 1), scaled @ key.transpose(2, 3)], -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores[..., shared:].view(rows, kv_heads, -1, queries, own).add_(part.bias)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    front = weights[..., :shared].transpose(0, 1).reshape(kv_heads, rows * per_kv, shared)
    out = torch.bmm(front, part.values).view(kv_heads, rows, per_kv, -1).transpose(0, 1)
    out = out + weights[..., shared:] @ value
    return out.reshape(rows, heads, queries, -1).transpose(1, 2).contiguous(), None


def _checked(key: torch.Tensor, window: int | None, others: dict[str, Any]) -> Part:
    """The marked part; UnfitError where the two-part result would not be the model's own."""
    part = getattr(key, _MARK, None)
    if not isinstance(part, Part):
        raise UnfitError("the model changes its keys between the cache and the attention")
    if window is not None and part.longest > window:
        raise UnfitError(f"{part.longest} positions do not fit a sliding window of {window}")
    strange = [name for name in CHANGES_SCORES if others.get(name) is not None]
    if strange:
        raise UnfitError(f"the model's attention takes {strange[0]}")
    return part


def attention_configs(model: Any) -> list[Any]:
    """The configs from which a model's layers read the name of their attention."""
    AttentionInterface.register(NAME, attend)
    found = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()
    return [config for config in found if hasattr(config, "_attn_implementation")]


@contextmanager
def two_parts(configs: Sequence[Any]) -> Iterator[None]:
    """Makes the model of these configs attend through `attend`, and as before afterwards.

    transformers reads the name at every call, and makes no mask for names without a mask function;
    the parts bring their own.
    """
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = NAME
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
