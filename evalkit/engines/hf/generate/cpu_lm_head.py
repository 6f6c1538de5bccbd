"""The output head for a few tokens at a time, on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

MOST_ROWS = 16
"""Up to here the product the other way round was measured to be faster (benchmarks/README.md)."""


@contextmanager
def quick_head(model: Any) -> Iterator[None]:
    """Inside, a linear head on the CPU computes (weight x^T)^T in place of x weight^T for up to 16 tokens.

    The same products, summed in another order: a vocabulary is a tall matrix, and the library's kernel for
    few rows times a tall matrix reads it at less than half the speed of memory. Heads of other kinds, other
    devices and larger passes are left alone.
    """
    head: Any = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.weight.device.type != "cpu" or "forward" in vars(head):
        yield
        return
    usual: Any = head.forward

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., vocab] of hidden states [..., size]."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        if rows.shape[0] > MOST_ROWS:
            return usual(hidden)
        logits = (head.weight @ rows.T).T
        logits = logits if head.bias is None else logits + head.bias
        return logits.reshape(*hidden.shape[:-1], -1)

    head.__dict__["forward"] = forward
    try:
        yield
    finally:
        del head.__dict__["forward"]  # the class's own again
