"""Keys and values of rows in flight: buffers of fixed size, one slot a row, behind one shared prefix."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from evalkit.engines.hf.generate.cpu_lm_head import quick_head
from evalkit.engines.hf.generate.prefix_attention import Part, UnfitError, attention_configs, mark, two_parts

CHUNK = 512
"""Prompt tokens of one pass: bounds the scores, [heads, chunk, prefix + own]."""
ROUND = 32
"""Own positions are read in multiples of this, so that few shapes occur."""


def rounded(positions: int) -> int:
    """The next multiple of `ROUND`."""
    return -(-positions // ROUND) * ROUND


@dataclass(frozen=True)
class Step:
    """Where the new tokens of a forward pass go: one each for several slots, or several for one."""

    slots: torch.Tensor
    """Slot of each row, [rows]."""
    starts: torch.Tensor
    """Own position of each row's first new token, [rows]."""
    first: int
    """First slot; the rows are in consecutive slots."""
    used: int
    """Own positions that are read."""
    part: tuple[torch.Tensor, int]
    """Bias [rows, 1, 1, queries, used] and the most positions seen (see `Part`)."""


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: the prefix [kv_heads, prefix, size], the slots
    [slots, kv_heads, capacity, size]."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, slots: int, capacity: int) -> None:
        super().__init__()
        self.prefix = (keys[0].contiguous(), values[0].contiguous())
        self.own = (
            keys.new_zeros((slots, keys.shape[1], capacity, keys.shape[3])),
            values.new_zeros((slots, values.shape[1], capacity, values.shape[3])),
        )
        self.is_initialized = True
        self.step: Step | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new states [rows, kv_heads, queries, size]; the own keys and values of these rows,
        [rows, kv_heads, used, size], the keys marked with the shared part."""
        step, device = self.step, self.own[0].device
        if step is None:
            raise UnfitError("the cache is used outside a step")
        rows, queries = key_states.shape[0], key_states.shape[2]
        for buffer, new in zip(self.own, (key_states, value_states), strict=True):
            if queries == 1:
                buffer[step.slots.to(device), :, step.starts.to(device)] = new[:, :, 0]
            else:
                start = step.used - queries
                buffer[step.first, :, start : step.used] = new[0]
        bias, longest = step.part
        part = Part(*self.prefix, bias.to(device), longest)
        keys, values = (buffer[step.first : step.first + rows, :, : step.used] for buffer in self.own)
        return mark(keys, part), values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: the buffers are there from the start."""

    def get_seq_length(self) -> int:
        """Positions of the longest row; models ask for it where they are given no position ids."""
        return self.prefix[0].shape[1] + (self.step.used if self.step else 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys and their offset, for a mask that nobody reads."""
        return self.get_seq_length(), 0

    def get_max_length(self) -> int:
        """Prefix and own positions."""
        return int(self.prefix[0].shape[1] + self.own[0].shape[2])


class Slots:
    """Forward passes of one model over rows that share a prefix."""

    def __init__(self, model: Any, prefix: Sequence[int], count: int, capacity: int) -> None:
        """Computes the prefix (token ids, maybe none) once, with the model's own attention."""
        self._model = model
        self._configs = attention_configs(model)
        self._prefix = len(prefix)
        # not every model can leave out the logits of the other positions
        keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if keep else {})}
        # without a prefix, one token is run for the shapes alone
        cache = self._run_prefix(prefix or [0])
        cut = slice(0, len(prefix))
        layers = [SlotLayer(k[:, :, cut], v[:, :, cut], count, capacity) for k, v in cache]
        self._layers = layers
        make: Any = Cache
        self._cache = make(layers=layers)

    def _run_prefix(self, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of each layer, [1, kv_heads, prefix, size]."""
        make: Any = DynamicCache
        cache = make()  # without a config, so that windows drop nothing
        with torch.inference_mode():
            for start in range(0, len(ids), CHUNK):
                part = torch.tensor([ids[start : start + CHUNK]], device=self._model.device)
                positions = torch.arange(start, start + part.shape[1], device=part.device)[None]
                self._model(input_ids=part, position_ids=positions, past_key_values=cache, **self._options)
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        if not layers or any(keys is None or keys.dim() != 4 for keys, _ in layers):
            raise UnfitError("the model does not keep keys and values of every layer")
        return layers

    def prefill(self, slot: int, ids: Sequence[int]) -> torch.Tensor:
        """Fill a slot with a prompt's own tokens; logits [1, vocab] of the next one."""
        logits = torch.empty(0)
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK]
            end = start + len(part)
            seen = torch.arange(end)[None] <= torch.arange(start, end)[:, None]
            step = self._step([slot], [start], end, seen[None])
            logits = self._forward(torch.tensor([list(part)]), torch.arange(start, end)[None], step)
        return logits

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """One more token for the first slots; logits [rows, vocab] of the next ones.

        `lengths` are the own positions that each slot holds before.
        """
        starts = torch.tensor(lengths)
        used = min(rounded(max(lengths) + 1), self._layers[0].own[0].shape[2])
        seen = (torch.arange(used)[None] <= starts[:, None])[:, None]
        step = self._step(list(range(len(tokens))), lengths, used, seen)
        return self._forward(torch.tensor(tokens)[:, None], starts[:, None], step)

    def _step(self, slots: Sequence[int], starts: Sequence[int], used: int, seen: torch.Tensor) -> Step:
        """`seen`, bool [rows, queries, used], says which own positions a query may read."""
        device = self._model.device
        bias = torch.zeros(seen.shape, dtype=self._layers[0].own[0].dtype).masked_fill_(~seen, float("-inf"))
        return Step(
            torch.tensor(slots, device=device),
            torch.tensor(starts, device=device),
            slots[0],
            used,
            (bias[:, None, None].to(device), self._prefix + max(starts) + seen.shape[1]),
        )

    def _forward(self, ids: torch.Tensor, own: torch.Tensor, step: Step) -> torch.Tensor:
        """Logits [rows, vocab] after the last of `ids` [rows, queries] at own positions `own`."""
        device = self._model.device
        for layer in self._layers:
            layer.step = step
        with torch.inference_mode(), two_parts(self._configs), quick_head(self._model):
            out = self._model(
                input_ids=ids.to(device),
                position_ids=(own + self._prefix).to(device),
                past_key_values=self._cache,
                **self._options,
            )
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def move(self, source: int, target: int, length: int) -> None:
        """Put a row of `length` own tokens from one slot into another."""
        with torch.inference_mode():
            for buffer in (buffer for layer in self._layers for buffer in layer.own):
                buffer[target, :, :length] = buffer[source, :, :length]

    def clear(self, slot: int, length: int) -> None:
        """Forget a row's values: they are multiplied by weights of 0 later, and 0 × NaN is NaN."""
        with torch.inference_mode():
            for layer in self._layers:
                layer.own[1][slot, :, :length] = 0
