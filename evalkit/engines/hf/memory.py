"""Batches by token budget, and halving them when the memory does not suffice."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from evalkit.core.records import ModelSpec, Reply

T = TypeVar("T")
MIN_TOKENS, MAX_TOKENS_CPU, MAX_TOKENS_GPU = 512, 4096, 65536
CPU_LOGITS_BYTES = 2 << 30
GEN_ROWS_CPU, GEN_ROWS_GPU = 8, 64
SLOTS_CPU, SLOTS_GPU = 16, 256
GPU_SHARE = 0.4
OOM_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
DEVICE_TEXTS = ("CUDA error", "HIP error")
"""In errors of the runtime; after most of them every later call of the process fails, too."""


@dataclass(frozen=True)
class PassBudget:
    """Limits of one forward pass."""

    score_tokens: int
    """Padded tokens of a scoring pass."""
    gen_tokens: int
    """Padded prompt and output tokens of a generation batch."""
    gen_rows: int
    """Rows of a padded generation batch."""
    slots: int = SLOTS_CPU
    """Rows in flight of continuous batching, which pads nothing."""
    slot_tokens: int = 4 * MAX_TOKENS_CPU
    """Tokens in flight of continuous batching: their keys and values, since few are computed at a time."""


def is_oom(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OOM_TEXTS)


def is_device_failure(error: BaseException) -> bool:
    """Whether an exception says that the device failed, for another reason than want of memory."""
    return isinstance(error, RuntimeError) and not is_oom(error) and any(text in str(error) for text in DEVICE_TEXTS)


def choose_budget(spec: ModelSpec, model: Any, device: torch.device, padding: bool) -> PassBudget:
    """Limits for a loaded model: those of the spec, else by the memory that is left.

    `padding` false: the model cannot generate behind left padding, so rows run one by one.
    """
    config = model.config.get_text_config()
    item = model.dtype.itemsize
    if device.type == "cuda":
        free = GPU_SHARE * torch.cuda.mem_get_info(device)[0]
        score = _clamp(free / pass_bytes(config, item), MAX_TOKENS_GPU)
        gen = _clamp(free / (kv_bytes(config, item) + activation_bytes(config, item)), 16 * MAX_TOKENS_GPU)
        in_slots = _clamp(free / kv_bytes(config, item), 16 * MAX_TOKENS_GPU)
        rows, slots = GEN_ROWS_GPU, SLOTS_GPU
    else:
        score = _clamp(CPU_LOGITS_BYTES / (4 * config.vocab_size), MAX_TOKENS_CPU)
        gen = in_slots = 4 * MAX_TOKENS_CPU
        rows, slots = GEN_ROWS_CPU, SLOTS_CPU
    if spec.batch_tokens is not None:
        score = gen = in_slots = spec.batch_tokens
    return PassBudget(score, gen, rows if padding else 1, slots, in_slots)


def in_batches(
    items: Sequence[T],
    length: Callable[[T], int],
    answer: Callable[[Sequence[T]], list[Reply]],
    fail: Callable[[T], list[Reply]],
    tokens: int,
    rows: int,
) -> Iterator[Reply]:
    """Replies to all items, batch by batch, the longest items first.

    A batch holds at most `rows` items and `tokens` padded tokens, but at least one item. When the
    memory does not suffice for it, the budget is halved for it and for what follows; an item that
    does not fit alone gets the replies of `fail`. Other errors of `answer` pass through.
    """
    queue = sorted(items, key=length, reverse=True)
    start = 0
    while start < len(queue):
        longest = max(1, length(queue[start]))
        count = max(1, min(rows, tokens // longest, len(queue) - start))
        batch = queue[start : start + count]
        replies = _attempt(answer, batch)
        if replies is None and count > 1:
            rows, tokens = min(rows, count // 2), min(tokens, longest * (count // 2))
            free_memory()
            continue
        if replies is None:
            free_memory()
            replies = fail(batch[0])
        yield from replies
        start += count


def _attempt(answer: Callable[[Sequence[T]], list[Reply]], batch: Sequence[T]) -> list[Reply] | None:
    """The replies, or None when memory ran out.

    Returning ends the except block, and with it the traceback that keeps the tensors alive.
    """
    try:
        return answer(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        return None


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that tensors on this CUDA device have taken; None on others."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def free_memory() -> None:
    """Give back what no tensor uses any more, on every device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _clamp(value: float, most: int) -> int:
    return int(min(max(value, MIN_TOKENS), most))


def kv_shape(config: Any) -> tuple[int, int]:
    """(heads of keys and values, numbers in each) of a layer."""
    heads = getattr(config, "num_attention_heads", 1)
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return kv_heads, getattr(config, "head_dim", None) or config.hidden_size // heads


def kv_bytes(config: Any, item: int) -> int:
    """Bytes of keys and values of one token in all layers; `item` is the bytes of a number."""
    kv_heads, size = kv_shape(config)
    return int(2 * config.num_hidden_layers * kv_heads * size * item)


def activation_bytes(config: Any, item: int) -> int:
    """Bytes of activations of one token at the peak of a layer: about 40 hidden vectors."""
    return int(40 * config.hidden_size * item)


def pass_bytes(config: Any, item: int) -> int:
    """Bytes of one token of a scoring pass: activations, and logits in the model's dtype and in float32."""
    return int(config.vocab_size * (item + 4)) + activation_bytes(config, item)
