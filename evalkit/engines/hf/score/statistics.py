"""The numbers of each token of a text, for the contamination methods that look at them; plain padded batches.

They need every token's whole distribution, so nothing is gained by sharing prefixes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from evalkit.core.records import Reply
from evalkit.engines.hf.memory import in_batches
from evalkit.engines.hf.score.plain import CHUNK_NUMBERS, NO_MEMORY, padded_logits, reply
from evalkit.engines.hf.tokens import Encoded, group_equal

DIGITS = 5
"""Decimals that a reply keeps of a token's numbers."""
LEAST_VARIANCE = 1e-12
"""Of a distribution that is sure of one token; its deviations are finite by it."""


def score_statistics(model: Any, items: Sequence[Encoded], tokens: int, pad: int) -> Iterator[Reply]:
    """Replies to ppl requests as `score` gives them, with the numbers of each token 2..N besides."""
    yield from (item.failed(item.error) for item in items if item.error)
    groups = group_equal(items)
    yield from in_batches(
        groups,
        length=lambda group: len(group[0].ids),
        answer=partial(_answer, model, pad),
        fail=lambda group: [item.failed(NO_MEMORY) for item in group],
        tokens=tokens,
        rows=len(groups),
    )


def token_statistics(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities, deviations) of `ids` [rows, width] under `logits` [rows, width, vocab].

    Both float32 of shape [rows, width - 1], for the tokens 2..N. A deviation is (log p(x) - mu) / sigma, where mu and
    sigma are mean and standard deviation of log p(z) with z drawn from p (Zhang et al., 2024, equation 3). A piece
    along the width is normalised at once.
    """
    rows, width, vocab = logits.shape
    step = max(1, CHUNK_NUMBERS // (rows * vocab))
    logs = torch.empty((rows, width - 1), dtype=torch.float32, device=logits.device)
    deviations = torch.empty_like(logs)
    for start in range(0, width - 1, step):
        stop = min(start + step, width - 1)
        part = logits[:, start:stop].float().log_softmax(-1)
        p = part.exp()
        part = part.masked_fill(p == 0, 0.0)  # p log p is 0 there, where -inf would give nan
        mu = (p * part).sum(-1)
        sigma = (p * (part - mu[..., None]).square()).sum(-1).clamp_min(LEAST_VARIANCE).sqrt()
        target = ids[:, start + 1 : stop + 1, None]
        own = logits[:, start:stop].float().gather(-1, target)[..., 0] - logits[:, start:stop].float().logsumexp(-1)
        logs[:, start:stop], deviations[:, start:stop] = own, (own - mu) / sigma
    return logs, deviations


def _answer(model: Any, pad: int, batch: Sequence[Sequence[Encoded]]) -> list[Reply]:
    """Replies to the requests of several groups; a group shares its token ids."""
    began = time.perf_counter()
    with torch.inference_mode():
        found = token_statistics(*padded_logits(model, [group[0].ids for group in batch], pad))
    logs, deviations = (numbers.cpu().double() for numbers in found)
    seconds = (time.perf_counter() - began) / sum(map(len, batch))
    replies = []
    for number, group in enumerate(batch):
        count = len(group[0].ids) - 1
        own = reply(group[0], -float(logs[number, :count].sum()), seconds)
        told = [[round(float(x), DIGITS) for x in part[number, :count]] for part in (logs, deviations)]
        replies += [
            replace(own, key=item.request.key, token_logs=told[0], token_deviations=told[1])
            if not own.error
            else item.failed(own.error)
            for item in group
        ]
    return replies
