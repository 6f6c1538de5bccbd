"""Sliding windows: which layers have one, and a short one for self-checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

WINDOW = 9
"""Window of a self-check: shorter than its texts, and than any model's own."""
CHUNKED = "chunked_attention"


def layer_windows(config: Any) -> tuple[list[int | None], int | None]:
    """(window of each layer in tokens, None for all; the shortest chunk of layers that attend in chunks, or None).

    A token sees itself and the `window` - 1 tokens in front. Read from the cache that transformers makes for
    the config. Raises TypeError for layers that keep a state other than keys and values.
    """
    make: Any = DynamicCache
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    windows: list[int | None] = []
    chunks: list[int] = []
    for number, layer in enumerate(make(config=config).layers):
        window = layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else None
        if not isinstance(layer, DynamicLayer) or isinstance(layer, LinearAttentionCacheLayerMixin):
            raise TypeError(f"the model keeps a state other than keys and values ({type(layer).__name__})")
        chunked = kinds[number] == CHUNKED if kinds else getattr(text, "sliding_window", None) is None
        if window is not None and chunked:
            chunks.append(int(window))
            window = None
        windows.append(None if window is None else int(window))
    return windows, min(chunks, default=None)


@contextmanager
def short_window(config: Any) -> Iterator[None]:
    """Inside, a model of this text config builds its masks with a window of `WINDOW` tokens."""
    before = config.sliding_window
    config.sliding_window = WINDOW
    try:
        yield
    finally:
        config.sliding_window = before
