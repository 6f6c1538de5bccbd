"""One forward pass of a row behind a cached prefix, with the head only where it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from evalkit.engines.hf.score.cache import PathCache
from evalkit.engines.hf.score.row import Row

CHUNK_NUMBERS = 4 << 20
"""Most float32 logits that are normalised at once (16 MB): what a cache holds is done twice as fast."""
SINGLE = ""


@dataclass(frozen=True)
class Attention:
    """The masks that a model takes."""

    windows: Mapping[str, int | None]
    """Kind of layer → its window in tokens, None for all; kind "" where one mask serves all layers."""

    def masks(self, row: Row, cached: int, like: torch.Tensor) -> Any:
        """Additive mask [1, 1, row, cached + row] of the dtype and device of `like`, or one a kind of layer."""
        made = {window: additive_mask(row, cached, window, like) for window in set(self.windows.values())}
        if SINGLE in self.windows:
            return made[self.windows[SINGLE]]
        return {kind: made[window] for kind, window in self.windows.items()}


def additive_mask(row: Row, cached: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """0 where a token of the row may look, else the least number of the dtype.

    A token sees the cached prefix and, in the row, itself and those in front that its path holds;
    with a window, only what is less than `window` positions away. Numbers instead of booleans,
    since attention in plain torch adds the mask to its scores.
    """
    place = torch.arange(len(row.ids), device=like.device)
    ends = torch.tensor(row.ends, device=like.device)
    seen = (place[:, None] >= place[None, :]) & (place[:, None] < ends[None, :])
    seen = torch.cat([seen.new_ones((len(row.ids), cached)), seen], dim=1)
    if window is not None:
        at = torch.tensor(row.positions, device=like.device)
        keys = torch.cat([torch.arange(cached, device=like.device), at])
        seen &= at[:, None] - keys[None, :] < window
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~seen, torch.finfo(like.dtype).min)[None, None]


def row_losses(model: Any, row: Row, cache: PathCache, attention: Attention) -> list[float]:
    """float32 losses of the row's asked tokens, in nats, in their order.

    The keys and values lie behind the cache's extent afterwards; the caller keeps them or not.
    Raises ValueError when the model has not run its head as expected.
    """
    like = torch.empty(0, dtype=model.dtype, device=model.device)
    heads = sorted(set(row.heads)) or [len(row.ids) - 1]
    with torch.inference_mode(), head_at(model, heads):
        logits = model(
            input_ids=torch.tensor([row.ids], device=like.device),
            position_ids=torch.tensor([row.positions], device=like.device),
            attention_mask=attention.masks(row, cache.length, like),
            past_key_values=cache,
            use_cache=True,
        ).logits
        if logits.shape[:2] != (1, len(heads)):
            raise ValueError(f"logits of shape {tuple(logits.shape)} for {len(heads)} tokens")
        if not row.heads:
            return []
        place = {head: i for i, head in enumerate(heads)}
        return losses_of(logits[0], [place[h] for h in row.heads], row.targets)


def losses_of(logits: torch.Tensor, rows: Sequence[int], targets: Sequence[int]) -> list[float]:
    """-log softmax(logits [n, vocab])[rows[k], targets[k]] for every k, in float32, piece by piece."""
    at = torch.tensor(rows, device=logits.device)
    ids = torch.tensor(targets, device=logits.device)
    step = max(1, CHUNK_NUMBERS // logits.shape[-1])
    sums = [part.float().logsumexp(-1) for part in logits.split(step)]
    losses = torch.cat(sums)[at] - logits[at, ids].float()
    return [float(x) for x in losses.cpu().tolist()]


@contextmanager
def head_at(model: Any, tokens: Sequence[int]) -> Iterator[None]:
    """Inside, the output head sees these tokens of the row only; what follows the head still applies."""
    head = model.get_output_embeddings()

    def select(_module: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = args[0]
        return (hidden[:, torch.tensor(tokens, device=hidden.device)], *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()  # a hook left behind would corrupt every later call
