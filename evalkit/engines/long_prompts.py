"""What the longest prompts of a run take, by arithmetic on a checkpoint's files: memory and prefill FLOPs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.checkpoint import local_dir, weight_files

GIB = 1 << 30
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
QUANTIZED = {"8bit": 1.0, "4bit": 0.5}
"""Bytes of a weight."""
CHUNK_BYTES = 1 << 30
"""What a pass over a chunk works in, on a GPU."""
CHUNK_BYTES_CPU = 96 << 20


@dataclass(frozen=True)
class LongPrompts:
    """The arithmetic of one model and one length."""

    model: str
    tokens: int
    """Of prompt and output together."""
    weights: int
    """Bytes."""
    per_token: int
    """Bytes of keys and values of a token, in all layers."""
    working: int
    """Bytes that a pass works in."""
    prefill_flops: float
    available: int
    """Bytes on the devices of one copy of the model, or in this machine's memory."""
    where: str

    @property
    def needed(self) -> int:
        """Bytes."""
        return self.weights + self.per_token * self.tokens + self.working

    @property
    def longest(self) -> int:
        """Most tokens that fit; 0 where the weights alone do not."""
        return max(0, (self.available - self.weights - self.working) // self.per_token)

    def __str__(self) -> str:
        return (
            f"{self.model}: rows of {self.tokens:,} tokens need {self.needed / GIB:.2f} GiB = weights "
            f"{self.weights / GIB:.2f} + keys and values {self.tokens:,} x {self.per_token:,} B = "
            f"{self.per_token * self.tokens / GIB:.2f} + {self.working / GIB:.2f} at work, of "
            f"{self.available / GIB:.2f} GiB {self.where}; prefill of one row {self.prefill_flops:.2e} FLOP"
        )

    def check(self) -> None:
        """ModelError, with what would fit, where the memory does not suffice."""
        if self.needed <= self.available:
            return
        shorter = f"--max-seq-len {self.longest} fits; " if self.longest > 1024 else ""
        raise ModelError(
            str(self),
            f"{shorter}or spread the model (--gpus-per-model N), quantize it (--quantization 8bit), take lmdeploy with "
            "8-bit keys and values (--engine lmdeploy, options.quant_policy 8), vllm, or an endpoint",
        )


def plan_long_prompts(spec: ModelSpec, tokens: int) -> LongPrompts | None:
    """The arithmetic for rows of at most `tokens` tokens; None where the config does not tell the shapes."""
    folder = local_dir(spec.path, spec.revision)
    if folder is None:
        return None
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config") or config
        layers, heads, hidden = (
            int(config[key]) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")
        )
        stored = sum(file.stat().st_size for file in weight_files(folder))
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    on_gpu = spec.device != "cpu" and shutil.which("nvidia-smi") is not None
    kept = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    item = BYTES.get(kept if spec.dtype == "auto" else spec.dtype, 4)
    weights = stored * item / BYTES.get(kept, 4)
    if (quantized := QUANTIZED.get(str(spec.options.get("quantization", "")))) is not None:
        weights = weights / item * quantized
    limit = spec.max_seq_len or int(config.get("max_position_embeddings") or tokens)
    tokens = min(tokens, limit)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or hidden // heads)
    available, where = _available(spec.gpus) if on_gpu else (_memory(), "free in this machine's memory")
    return LongPrompts(
        model=spec.name,
        tokens=tokens,
        weights=int(weights),
        per_token=2 * layers * kv_heads * size * item,
        working=CHUNK_BYTES if on_gpu else CHUNK_BYTES_CPU,
        prefill_flops=prefill_flops(stored / BYTES.get(kept, 4), layers, heads * size, tokens),
        available=available,
        where=where,
    )


def prefill_flops(parameters: float, layers: int, width: int, tokens: int) -> float:
    """Of one prompt: twice the parameters a token, and causal attention (its two products, half of each)."""
    return 2.0 * parameters * tokens + 2.0 * layers * width * tokens**2


def _available(gpus: int) -> tuple[int, str]:
    """Memory of as many devices as one copy takes."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    sizes = [int(line) << 20 for line in done.stdout.split() if line.strip().isdigit()]
    if not sizes:
        return _memory(), "free in this machine's memory"
    return sum(sizes[:gpus]), f"on {min(gpus, len(sizes))} device{'s' if gpus > 1 else ''}"


def _memory() -> int:
    """Bytes of memory that programs may still take here."""
    file = Path("/proc/meminfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return free[0] if free else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
