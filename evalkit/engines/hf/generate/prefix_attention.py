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
PARTS = "evalkit_parts"
"""Argument of a forward pass: a part for each layer, where the keys cannot carry it."""
_MARK = "evalkit_part"
CHANGES_SCORES = ("position_bias", "head_mask", "alibi")


class UnfitError(RuntimeError):
    """A model attends in a way that the two parts do not cover."""


class KeysChangedError(UnfitError):
    """A model makes its keys out of what the cache gives it."""


@dataclass(frozen=True)
class Part:
    """What one layer's attention needs besides the rows' own keys."""

    keys: torch.Tensor
    """What the cache holds of the shared prefix as keys, [kv_heads, shared, size]."""
    values: torch.Tensor
    """The same as values, [kv_heads, shared, size]."""
    bias: torch.Tensor
    """Added to the scores of the own keys: 0 where seen, -inf where not; [rows, 1, 1, queries, own]."""
    visible: int
    """Most positions, shared and own, that a query of this step can see."""
    shared_bias: torch.Tensor | None = None
    """The same for the shared keys, [rows, 1, 1, queries, shared]; None where all are seen."""


def mark(keys: torch.Tensor, part: Part) -> torch.Tensor:
    """The own keys with the rest on them: models pass on to attention what the cache gave them.

    Not every model passes further arguments through its layers; all pass the keys.
    """
    setattr(keys, _MARK, part)
    return keys


def flatten(part: Part, own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Shared [heads, shared, size] and own states [rows, heads, own, size] in one row, [1, heads, all, size].

    For models that make keys out of what is cached, token by token: they then do so once for the shared ones.
    """
    return torch.cat([shared, own.transpose(0, 1).flatten(1, 2)], 1)[None]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output [rows, queries, heads, size], as transformers calls it.

    `query` is [rows, heads, queries, size]; `key` and `value` are the own parts, [rows, kv_heads, own,
    size], as a cache of `slots.Slots` gave them, or all parts in one row (`flatten`). Head h reads the keys of
    kv_head h // (heads / kv_heads). `s_aux`, [heads]: a score that takes its share of the weights and has
    no value (an attention sink).
    """
    part = _checked(module, key, sliding_window, others)
    rows, heads, queries, size = query.shape
    front_keys, own_keys = _split(part, key, part.keys, rows)
    front_values, own_values = _split(part, value, part.values, rows)
    kv_heads, own = own_keys.shape[1], own_keys.shape[2]
    shared, groups = front_keys.shape[1], heads // kv_heads
    per_kv = groups * queries
    scaled = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows, kv_heads, per_kv, size)
    # one product for all rows: the shared keys are read once
    folded = scaled.transpose(0, 1).reshape(kv_heads, rows * per_kv, size)
    front = torch.bmm(folded, front_keys.transpose(1, 2)).view(kv_heads, rows, per_kv, shared)
    scores = torch.cat([front.transpose(0, 1), scaled @ own_keys.transpose(2, 3)], -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores[..., shared:].view(rows, kv_heads, groups, queries, own).add_(part.bias)
    if part.shared_bias is not None:
        scores[..., :shared].view(rows, kv_heads, groups, queries, shared).add_(part.shared_bias)
    if s_aux is not None:
        sink = s_aux.to(scores.dtype).view(1, kv_heads, groups, 1, 1).expand(rows, -1, -1, queries, -1)
        scores = torch.cat([scores, sink.reshape(rows, kv_heads, per_kv, 1)], -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    front = weights[..., :shared].transpose(0, 1).reshape(kv_heads, rows * per_kv, shared)
    out = torch.bmm(front, front_values).view(kv_heads, rows, per_kv, -1).transpose(0, 1)
    out = out + weights[..., shared : shared + own] @ own_values
    return out.reshape(rows, heads, queries, -1).transpose(1, 2).contiguous(), None


def _split(part: Part, states: torch.Tensor, cached: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(shared [kv_heads, shared, size], own [rows, kv_heads, own, size]) of keys or values."""
    shared, own = cached.shape[1], part.bias.shape[-1]
    if states.shape[0] == rows and states.shape[2] == own:
        return cached, states
    if states.shape[0] != 1 or states.shape[2] != shared + rows * own:
        raise UnfitError(f"keys or values of shape {tuple(states.shape)}")
    return states[0, :, :shared], states[0, :, shared:].unflatten(1, (rows, own)).transpose(0, 1)


def _checked(module: torch.nn.Module, key: torch.Tensor, window: int | None, others: dict[str, Any]) -> Part:
    """The layer's part; UnfitError where the two-part result would not be the model's own."""
    parts, part = others.get(PARTS), getattr(key, _MARK, None)
    if parts is not None:
        part = parts.get(getattr(module, "layer_idx", None))
    if not isinstance(part, Part):
        raise KeysChangedError("the model changes its keys between the cache and the attention")
    if window is not None and part.visible > window:
        raise UnfitError(f"{part.visible} positions do not fit a sliding window of {window}")
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
