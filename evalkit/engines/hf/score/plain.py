"""Negative log-likelihoods of texts (ppl) and of continuations (ll), by plain padded batches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from evalkit.core.records import Reply
from evalkit.engines.hf.memory import in_batches
from evalkit.engines.hf.tokens import Encoded, group_equal

CHUNK_NUMBERS = 64 << 20
"""Most float32 logits that are normalised at once (256 MB)."""
NO_MEMORY = "out of memory: this text does not fit on the device even alone"


def score(model: Any, items: Sequence[Encoded], tokens: int, pad: int) -> Iterator[Reply]:
    """Replies to ppl and ll requests, in batches of at most `tokens` padded tokens.

    ppl: sum of the negative log-likelihoods of tokens 2..N, divided by N.
    ll: the sum over the continuation's tokens. Both in nats, float32 losses and a float64 sum.
    Equal texts are computed once, so that equal options tie exactly.
    """
    yield from (item.failed(item.error) for item in items if item.error)
    groups, answer = group_equal(items), partial(_score_batch, model, pad)
    yield from in_batches(
        groups,
        length=lambda group: len(group[0].ids),
        answer=answer,
        fail=lambda group: [item.failed(NO_MEMORY) for item in group],
        tokens=tokens,
        rows=len(groups),
    )


def token_losses(model: Any, rows: Sequence[Sequence[int]], pad: int) -> list[torch.Tensor]:
    """Loss of every token but the first of each row: float64 tensors of shape [len(row) - 1].

    Rows are padded on the right, where a causal model cannot see them.
    """
    with torch.inference_mode():
        logits, ids = padded_logits(model, rows, pad)
        losses = chunked_losses(logits, ids).cpu().double()
    return [losses[i, : len(row) - 1] for i, row in enumerate(rows)]


def padded_logits(model: Any, rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits [rows, width, vocab], ids [rows, width] on their device) of rows padded on the right."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits, ids.to(logits.device)


def chunked_losses(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """float32 losses [rows, width - 1] of `ids` [rows, width] under `logits` [rows, width, vocab].

    The logits are cast and normalised in pieces along the width.
    """
    rows, width, vocab = logits.shape
    step = max(1, CHUNK_NUMBERS // (rows * vocab))
    out = torch.empty((rows, width - 1), dtype=torch.float32, device=logits.device)
    for start in range(0, width - 1, step):
        stop = min(start + step, width - 1)
        part = logits[:, start:stop].float().flatten(0, 1)
        target = ids[:, start + 1 : stop + 1].flatten()
        out[:, start:stop] = cross_entropy(part, target, reduction="none").view(rows, -1)
    return out


def _score_batch(model: Any, pad: int, batch: Sequence[Sequence[Encoded]]) -> list[Reply]:
    """Replies to the requests of several groups; a group shares its token ids."""
    began = time.perf_counter()
    losses = token_losses(model, [group[0].ids for group in batch], pad)
    seconds = (time.perf_counter() - began) / sum(map(len, batch))
    pairs = zip(batch, losses, strict=True)
    return [
        reply(item, float(loss[len(loss) - item.scored :].sum()), seconds) for group, loss in pairs for item in group
    ]


def reply(item: Encoded, total: float, seconds: float) -> Reply:
    """The reply to a ppl or ll item whose scored tokens have `total` nats of loss."""
    nll = total / len(item.ids) if item.request.mode == "ppl" else total
    if not math.isfinite(nll):
        return item.failed(f"the negative log-likelihood is not finite ({nll})")
    return Reply(
        item.request.key,
        nll=nll,
        n_tokens=len(item.ids),
        n_scored=item.scored if item.request.mode == "ll" else 0,
        truncated=item.truncated,
        seconds=seconds,
    )
