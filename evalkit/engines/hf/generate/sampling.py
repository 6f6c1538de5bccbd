"""Drawing tokens: each row of a batch by its own settings and random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from evalkit.core.digest import digest
from evalkit.core.records import GenSettings, Request


def row_generator(request: Request) -> torch.Generator | None:
    """A row's own source of randomness, or None for greedy; equal for equal requests."""
    gen = request.gen
    if gen is None or gen.temperature <= 0:
        return None
    seed = int(digest([gen.seed, request.repeat, request.key])[:15], 16)
    return torch.Generator().manual_seed(seed)


class RowSampler(LogitsProcessor):
    """Draws the next token of sampled rows and leaves greedy rows as they are.

    It runs under greedy decoding: a drawn token gets the only finite score. So each row has its
    own settings and random numbers, and what it draws does not depend on the other rows.
    """

    def __init__(self, settings: Sequence[GenSettings], generators: Sequence[torch.Generator | None]) -> None:
        self._rows = list(zip(settings, generators, strict=True))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocab] with one token left in the sampled rows."""
        scores = scores.clone()
        for i, (settings, generator) in enumerate(self._rows):
            if generator is not None:
                token = draw(scores[i], settings, generator)
                scores[i] = float("-inf")
                scores[i, token] = 0.0
        return scores


def draw(scores: torch.Tensor, settings: GenSettings, generator: torch.Generator) -> int:
    """A token from logits [vocab]: temperature, then top-k, then top-p, then one uniform number."""
    values, order = (scores.float().cpu() / settings.temperature).sort(descending=True, stable=True)
    if settings.top_k > 0:
        values, order = values[: settings.top_k], order[: settings.top_k]
    probs = values.softmax(-1).double()
    total = probs.cumsum(-1)
    if settings.top_p < 1:
        # the token that crosses top_p stays
        keep = int((total - probs < settings.top_p).sum())
        total = total[: max(1, keep)]
    uniform = torch.rand((), dtype=torch.float64, generator=generator) * total[-1]
    place = int(torch.searchsorted(total, uniform, right=True))
    return int(order[min(place, len(total) - 1)])
