"""Rotary positions that change with the length of the longest text in a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GROWING_ROPE = ("dynamic", "longrope")


def steady_length(config: Any) -> int | None:
    """Length in tokens up to which a text's rotary tables stay the same; None where they always do.

    Beyond it the keys that were cached for a shorter text are not those of a longer one.
    """
    stated = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    each = [stated, *(value for value in stated.values() if isinstance(value, Mapping))]
    if not any(part.get("rope_type", part.get("type")) in GROWING_ROPE for part in each):
        return None
    lengths = [part.get("original_max_position_embeddings") for part in each]
    lengths += [getattr(config, "original_max_position_embeddings", None), config.max_position_embeddings]
    return min(int(length) for length in lengths if length)
