"""Keys and values of rows in flight: buffers of fixed size, one slot a row, behind one shared prefix.

A layer with a sliding window keeps the end of the prefix that a window can still see, and of each row the last
tokens of a window, in a ring: the token at own position p lies at place p modulo the window.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from evalkit.engines.hf.generate.cpu_lm_head import quick_head
from evalkit.engines.hf.generate.prefix_attention import (
    PARTS,
    KeysChangedError,
    Part,
    UnfitError,
    attention_configs,
    flatten,
    mark,
    two_parts,
)
from evalkit.engines.hf.windows import layer_windows

CHUNK = 512
"""Prompt tokens of one pass: bounds the scores, [heads, chunk, prefix + own]."""
ROUND = 32
"""Own positions are read in multiples of this, so that few shapes occur."""


def rounded(positions: int) -> int:
    """The next multiple of `ROUND`."""
    return -(-positions // ROUND) * ROUND


@dataclass(frozen=True)
class Sight:
    """What the new tokens of a step see in layers of one window."""

    bias: torch.Tensor
    """Of the own keys, [rows, 1, 1, queries, own] (see `Part`)."""
    shared_bias: torch.Tensor | None
    """Of the shared keys that these layers keep."""
    visible: int
    """Most positions that a query sees."""
    earlier: torch.Tensor | None = None
    """Several tokens of one row: places in the ring of the tokens before them that they can see, in order;
    None where no ring is used."""


@dataclass(frozen=True)
class Placement:
    """Where the new tokens of a forward pass go: one each for several slots, or several for one."""

    slots: torch.Tensor
    """Slot of each row, [rows]."""
    starts: torch.Tensor
    """Own position of each row's first new token, [rows]."""
    first: int
    """First slot; the rows are in consecutive slots."""
    used: int
    """Own positions that are read, where no window limits them."""
    sights: Mapping[int | None, Sight]
    """Window → what is seen."""
    flat: bool
    """Whether all parts are handed out in one row (see `flatten`)."""


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: the prefix [kv_heads, prefix, size], the slots
    [slots, kv_heads, places, size]."""

    is_sliding = False

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, slots: int, capacity: int, window: int | None = None
    ) -> None:
        """`keys` and `values` of the prefix, [1, kv_heads, prefix, size]; a window keeps their ends."""
        super().__init__()
        self.window = window
        self.length = keys.shape[2]
        kept = self.length if window is None else min(self.length, window - 1)
        self.prefix = (keys[0, :, self.length - kept :].contiguous(), values[0, :, self.length - kept :].contiguous())
        places = capacity if window is None else min(capacity, window)
        self.own = (
            keys.new_zeros((slots, keys.shape[1], places, keys.shape[3])),
            values.new_zeros((slots, values.shape[1], places, values.shape[3])),
        )
        self.is_initialized = True
        self.step: Placement | None = None
        self.part: Part | None = None
        """Of the step under way."""

    @property
    def places(self) -> int:
        """Own positions that a slot holds."""
        return int(self.own[0].shape[2])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new states [rows, kv_heads, queries, size]; the own keys and values of these rows,
        [rows, kv_heads, used, size], the keys marked with the shared part."""
        step, device = self.step, self.own[0].device
        if step is None:
            raise UnfitError("the cache is used outside a step")
        sight = step.sights[self.window]
        shared_bias = None if sight.shared_bias is None else sight.shared_bias.to(device)
        part = Part(*self.prefix, sight.bias.to(device), sight.visible, shared_bias)
        new = (key_states, value_states)
        keys, values = (self._stored(own, states, step, sight) for own, states in zip(self.own, new, strict=True))
        self.part = part
        if step.flat:
            return flatten(part, keys, part.keys), flatten(part, values, part.values)
        return mark(keys, part), values

    def _stored(self, buffer: torch.Tensor, new: torch.Tensor, step: Placement, sight: Sight) -> torch.Tensor:
        """The own states that the step reads, the new ones among them."""
        rows, queries = new.shape[0], new.shape[2]
        if queries == 1:
            buffer[step.slots.to(buffer.device), :, step.starts.to(buffer.device) % self.places] = new[:, :, 0]
            return buffer[step.first : step.first + rows, :, : sight.bias.shape[-1]]
        row = buffer[step.first]
        if sight.earlier is None:
            row[:, step.used - queries : step.used] = new[0]
            return buffer[step.first : step.first + 1, :, : step.used]
        # what the first new tokens see is overwritten by the last ones, so it is copied before
        seen = torch.cat([row[:, sight.earlier.to(buffer.device)], new[0]], 1)
        kept = min(queries, self.places)
        last = torch.arange(step.used - kept, step.used, device=buffer.device) % self.places
        row[:, last] = new[0, :, queries - kept :]
        return seen[None]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: the buffers are there from the start."""

    def get_seq_length(self) -> int:
        """Positions of the longest row; models ask for it where they are given no position ids."""
        return self.length + (self.step.used if self.step else 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys and their offset, for a mask that nobody reads."""
        return self.get_seq_length(), 0

    def get_max_length(self) -> int:
        """Prefix and own positions."""
        return self.length + self.places


class PartsByLayer(dict[int, "SlotLayer"]):
    """The part of each layer under way, for models that hand further arguments down to attention."""

    def get(self, number: Any, default: Any = None) -> Any:
        """The `Part` of a layer's number."""
        layer = super().get(number)
        return default if layer is None else layer.part


class Slots:
    """Forward passes of one model over rows that share a prefix."""

    def __init__(self, model: Any, prefix: Sequence[int], count: int, capacity: int) -> None:
        """Computes the prefix (token ids, maybe none) once, with the model's own attention."""
        self._model = model
        self._configs = attention_configs(model)
        self._prefix = len(prefix)
        self._capacity = capacity
        self._flat = False
        # not every model can leave out the logits of the other positions
        keep = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options: dict[str, Any] = {"use_cache": True, **({"logits_to_keep": 1} if keep else {})}
        # without a prefix, one token is run for the shapes alone
        cache = self._run_prefix(prefix or [0])
        windows, _ = layer_windows(model.config)
        if len(windows) != len(cache):
            raise UnfitError(f"{len(cache)} layers keep keys and values, {len(windows)} are configured")
        cut = slice(0, len(prefix))
        pairs = zip(cache, windows, strict=True)
        layers = [SlotLayer(k[:, :, cut], v[:, :, cut], count, capacity, window) for (k, v), window in pairs]
        self._layers = layers
        self._windows = set(windows)
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
            sights = {window: self._filling(start, end, window) for window in self._windows}
            step = self._step([slot], [start], end, sights)
            logits = self._forward(torch.tensor([list(part)]), torch.arange(start, end)[None], step)
        return logits

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """One more token for the first slots; logits [rows, vocab] of the next ones.

        `lengths` are the own positions that each slot holds before.
        """
        starts = torch.tensor(lengths)
        used = min(rounded(max(lengths) + 1), self._capacity)
        sights = {window: self._decoding(starts, used, window) for window in self._windows}
        step = self._step(list(range(len(tokens))), lengths, used, sights)
        return self._forward(torch.tensor(tokens)[:, None], starts[:, None], step)

    def _filling(self, start: int, end: int, window: int | None) -> Sight:
        """What the own positions start..end-1 of one row see."""
        if end - start == 1:
            return self._decoding(torch.tensor([start]), end, window)
        queries = torch.arange(start, end)
        ring = window is not None and window < self._capacity
        lower = max(0, start - window + 1) if ring and window is not None else 0
        keys = torch.arange(lower, end)
        seen = keys[None] <= queries[:, None]
        if window is not None:
            seen &= queries[:, None] - keys[None] < window
        earlier = torch.arange(lower, start) % window if ring and window is not None else None
        return self._sight(seen[None], queries[None], window, end, earlier)

    def _decoding(self, starts: torch.Tensor, used: int, window: int | None) -> Sight:
        """What one token a row, at own positions `starts` [rows], sees."""
        places = self._capacity if window is None else min(self._capacity, window)
        place = torch.arange(min(used, places))
        # the token that lies at a place is the last one in sight that belongs there; none where that is negative
        held = starts[:, None] - (starts[:, None] - place[None]) % places
        seen = held >= 0 if window is None else (held >= 0) & (starts[:, None] - held < window)
        return self._sight(seen[:, None], starts[:, None], window, int(starts.max()) + 1)

    def _sight(
        self,
        seen: torch.Tensor,
        at: torch.Tensor,
        window: int | None,
        longest: int,
        earlier: torch.Tensor | None = None,
    ) -> Sight:
        """`seen`, bool [rows, queries, own]; `at`, the queries' own positions [rows, queries]."""
        longest, shared_bias = longest + self._prefix, None
        if window is not None and longest > window:
            shared = torch.arange(max(0, self._prefix - window + 1), self._prefix)
            visible = self._prefix + at[..., None] - shared < window
            shared_bias = None if bool(visible.all()) else self._bias(visible)
            longest = window
        return Sight(self._bias(seen), shared_bias, longest, earlier)

    def _bias(self, seen: torch.Tensor) -> torch.Tensor:
        """0 where seen [rows, queries, keys], -inf where not, as `Part` has it."""
        bias = torch.zeros(seen.shape, dtype=self._model.dtype).masked_fill_(~seen, float("-inf"))
        return bias[:, None, None].to(self._model.device)

    def _step(
        self, slots: Sequence[int], starts: Sequence[int], used: int, sights: Mapping[int | None, Sight]
    ) -> Placement:
        device = self._model.device
        return Placement(
            torch.tensor(slots, device=device), torch.tensor(starts, device=device), slots[0], used, sights, self._flat
        )

    def _forward(self, ids: torch.Tensor, own: torch.Tensor, step: Placement) -> torch.Tensor:
        """Logits [rows, vocab] after the last of `ids` [rows, queries] at own positions `own`.

        A model that makes its keys out of what is cached is found out in its first layer; it gets all parts in
        one row from then on.
        """
        try:
            return self._attempt(ids, own, step)
        except KeysChangedError:
            if step.flat:
                raise
        self._flat = True
        return self._attempt(ids, own, replace(step, flat=True))

    def _attempt(self, ids: torch.Tensor, own: torch.Tensor, step: Placement) -> torch.Tensor:
        device = self._model.device
        for layer in self._layers:
            layer.step, layer.part = step, None
        more = {PARTS: PartsByLayer(enumerate(self._layers))} if step.flat else {}
        with torch.inference_mode(), two_parts(self._configs), quick_head(self._model):
            out = self._model(
                input_ids=ids.to(device),
                position_ids=(own + self._prefix).to(device),
                past_key_values=self._cache,
                **self._options,
                **more,
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
