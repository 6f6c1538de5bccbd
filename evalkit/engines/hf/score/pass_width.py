"""How many tokens a pass of the tree takes, and whether a run shares enough for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.engines.hf.memory import kv_bytes, kv_shape, pass_bytes
from evalkit.engines.hf.score.tree import TreeLimits, make_trie
from evalkit.engines.hf.tokens import Encoded, group_equal

WIDTH_CPU, WIDTH_GPU, LEAST_WIDTH = 512, 4096, 32
"""Wider passes compute more attention between branches that cannot see each other."""
LEAST_SAVED = 2048
"""Below so many shared tokens a few padded batches do as well."""


def pays(items: Sequence[Encoded]) -> bool:
    """Whether the items share enough tokens."""
    groups = group_equal(items)
    if not groups:
        return False
    return sum(len(group[0].ids) for group in groups) - make_trie(groups).tokens >= LEAST_SAVED


def tree_limits(model: Any, items: Sequence[Encoded], plain_tokens: int, asked: int | None) -> TreeLimits:
    """The widest pass whose memory is no more than that of a plain batch of `plain_tokens`.

    Counted in bytes: keys and values of the longest text and of the pass, its logits at every
    token, its mask, and the activations of a layer. `asked` tokens are not exceeded.
    """
    config, item = model.config.get_text_config(), model.dtype.itemsize
    per_token = pass_bytes(config, item)
    longest = max(len(i.ids) for i in items)
    width = WIDTH_GPU if model.device.type == "cuda" else WIDTH_CPU
    heads = getattr(config, "num_attention_heads", 1)
    kv_heads, size = kv_shape(config)
    kept = kv_bytes(config, item)
    # grouped keys are repeated for every head, one layer at a time
    spread = 2 * heads * size * item if kv_heads != heads else 0
    while width > LEAST_WIDTH:
        keys = longest + width
        if keys * (kept + spread) + 2 * width * keys * item + width * per_token <= plain_tokens * per_token:
            break
        width //= 2
    return TreeLimits(max(1, min(width, asked or width)))
