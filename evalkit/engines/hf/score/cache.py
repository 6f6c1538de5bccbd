"""Keys and values of the path that is being scored; one buffer a layer, never copied.

A forward pass writes its keys behind the cached ones and sees both through one view. What is kept
is decided afterwards: the pass of a shared prefix moves the extent on, that of branches does not,
so that the next branches overwrite them. Leaving a prefix moves the extent back.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class Extent:
    """How many positions of all layers are in use; shared by them."""

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self.capacity = capacity


class PathLayer(CacheLayerMixin):
    """One layer's keys and values, [1, heads, capacity, size] each."""

    is_sliding = False

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for keys and values of this shape."""
        self.keys = _room(key_states, self.extent.capacity)
        self.values = _room(value_states, self.extent.capacity)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the cached states and the new ones [1, heads, new, size] behind them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, stop = self.extent.length, self.extent.length + key_states.shape[-2]
        assert self.keys is not None and self.values is not None
        self.keys[:, :, start:stop] = key_states
        self.values[:, :, start:stop] = value_states
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a query sees, and the position of the first."""
        return self.extent.length + query_length, 0

    def get_seq_length(self) -> int:
        """Cached positions."""
        return self.extent.length

    def get_max_length(self) -> int:
        """Most positions."""
        return self.extent.capacity


class PathCache(Cache):
    """The cache of one path of a trie, for models with keys and values in every layer."""

    def __init__(self, layers: int, capacity: int) -> None:
        self.extent = Extent(capacity)
        super().__init__(layers=[PathLayer(self.extent) for _ in range(layers)])

    @property
    def length(self) -> int:
        """Cached positions."""
        return self.extent.length

    @length.setter
    def length(self, value: int) -> None:
        self.extent.length = value


def _room(states: torch.Tensor, capacity: int) -> torch.Tensor:
    shape = (*states.shape[:2], capacity, states.shape[3])
    return torch.empty(shape, dtype=states.dtype, device=states.device)
