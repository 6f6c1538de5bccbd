"""Short runs of a freshly loaded model that show whether its numbers can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evalkit.core.errors import ModelError

LONG, SHORT = 12, 7
TOLERANCE_FLOAT32, TOLERANCE_HALF = 0.01, 0.2


def check_finite(model: Any, path: str) -> None:
    """The weights and one tiny forward pass; ModelError when they hold anything but finite numbers.

    The weights are looked at by themselves, since fused attention kernels turn a query that is NaN
    into finite outputs: torch's on the CPU read it as a row that sees nothing.
    """
    broken = [name for name, tensor in model.named_parameters() if not _is_finite(tensor)]
    broken += [name for name, tensor in model.named_buffers() if _has_nan(tensor)]
    if broken:
        shown = ", ".join(broken[:5]) + (", …" if len(broken) > 5 else "")
        raise ModelError(
            f"{len(broken)} tensors of {path} are not finite: {shown}",
            "a dtype with too small a range does that (try bfloat16 or float32), else the weights are broken, "
            "or the model's code does not work with this version of transformers",
        )
    logits = _forward(model, path)
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"{path} computes values that are not finite (dtype {str(model.dtype).removeprefix('torch.')})",
            "try dtype: float32 or bfloat16; if that does not help, the weights are broken or the "
            "model's code does not work with this version of transformers",
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether a floating tensor holds finite numbers only; quantized and empty ones pass."""
    if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.is_meta or tensor.element_size() < 2:
        return True
    least, most = tensor.detach().aminmax()
    return bool(torch.isfinite(least) & torch.isfinite(most))


def _has_nan(tensor: torch.Tensor) -> bool:
    """Whether a buffer holds NaN; an infinite number may be a mask."""
    return tensor.is_floating_point() and not tensor.is_meta and bool(torch.isnan(tensor).any())


def pads_well(model: Any, pad: int) -> bool:
    """Whether the next-token logits of a row stay the same behind left padding.

    False for models that read their padding; they must generate row by row. The difference is
    measured against the spread of the logits, with room for the rounding of half precision.
    """
    long, short = _ids(model, LONG, 3), _ids(model, SHORT, 5)
    alone = _next_logits(model, [short], pad)[0]
    padded = _next_logits(model, [long, short], pad)[1]
    tolerance = TOLERANCE_FLOAT32 if model.dtype == torch.float32 else TOLERANCE_HALF
    return float((alone - padded).abs().max()) <= tolerance * float(alone.std())


def _forward(model: Any, path: str) -> torch.Tensor:
    ids = torch.tensor([_ids(model, SHORT, 3)], device=model.device)
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{path} loads but cannot run a forward pass: {type(error).__name__}: {error}",
            "try another dtype or attn_implementation; a checkpoint's own code may be too old",
        ) from error
    return logits


def _next_logits(model: Any, rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """float32 logits [rows, vocab] of the token after each left-padded row, as `generate` sees them."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            max_new_tokens=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
    logits: torch.Tensor = out.logits[0].float().cpu()
    return logits


def _ids(model: Any, count: int, step: int) -> list[int]:
    """A few different token ids that every vocabulary has."""
    size = model.get_input_embeddings().num_embeddings
    return [(3 + step * i) % size for i in range(count)]
