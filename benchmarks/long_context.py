"""What needle grids and long prompts cost with a small random model on the CPU.

    python benchmarks/long_context.py grid      # 8 lengths x 11 depths: along shared prefixes against one by one
    python benchmarks/long_context.py memory    # peak memory of one prompt of 32k and of 64k tokens

The model is random: only times, memory and equality of the greedy outputs mean anything.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path as File
from typing import Any

DEPTHS = (0, 10, 21, 31, 42, 52, 63, 73, 84, 94, 100)
NEW = 16
"""Tokens that each prompt is answered with."""


def make_model(hidden: int, layers: int, window: int) -> Any:
    """A random Llama in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config: Any = LlamaConfig(
        vocab_size=2048, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=window,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def prompts(lengths: Sequence[int]) -> list[tuple[int, ...]]:
    """A haystack of token ids cut to each length, with a needle at each depth and a question behind."""
    hay = [(7 * i + i // 13) % 2000 for i in range(max(lengths))]
    needle, question = [2001, 2002, 2003, 2004], [2010, 2011, 2012]
    return [(*hay[: n * d // 100], *needle, *hay[n * d // 100 : n], *question) for n in lengths for d in DEPTHS]


def encoded(rows: Sequence[tuple[int, ...]]) -> Iterator[Any]:
    """The prompts as the engine has them."""
    from evalkit.core.records import GenSettings, Request
    from evalkit.engines.hf.tokens import Encoded

    for number, ids in enumerate(rows):
        yield Encoded(Request(str(number), str(number), "gen", text="x", gen=GenSettings(NEW)), ids)


def grid(longest: int) -> dict[str, Any]:
    """Seconds of all cells of a grid, both ways."""
    from transformers import AutoTokenizer

    from evalkit.engines.hf.generate.path import Path, along_path
    from evalkit.engines.hf.generate.plain import full_length, generate, neutral_config
    from evalkit.engines.hf.generate.stop_criteria import StopCriteria
    from evalkit.engines.hf.tiny import make_tiny

    lengths = [longest * k // 8 for k in range(1, 9)]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(make_tiny(File(folder) / "tiny"))
    model, items = make_model(256, 4, 2 * longest), list(encoded(prompts(lengths)))
    stops = StopCriteria((), (), (), 0)
    model.generation_config = neutral_config(stops, None, chat=False)
    list(along_path(model, tokenizer, items[:1], stops))  # the first pass pays for threads and kernels
    began = time.perf_counter()
    path = Path(model, max(map(full_length, items)))
    shared = {reply.key: reply.text for reply in along_path(model, tokenizer, items, stops, path)}
    middle = time.perf_counter()
    alone = {reply.key: reply.text for reply in generate(model, tokenizer, items, stops, 1, 1)}
    ended = time.perf_counter()
    total = sum(len(item.ids) for item in items)
    return {
        "lengths": lengths, "cells": len(items), "prompt_tokens": total, "tokens_run": path.computed,
        "share_of_tokens": round(path.computed / total, 3), "seconds_shared": round(middle - began, 1),
        "seconds_one_by_one": round(ended - middle, 1), "speedup": round((ended - middle) / (middle - began), 2),
        "same_outputs": shared == alone,
    }  # fmt: skip


def memory(length: int) -> dict[str, Any]:
    """Peak memory above that of the libraries, against weights, keys and values."""
    from evalkit.engines.hf.generate.path import Path
    from evalkit.engines.hf.memory import kv_bytes

    small = make_model(64, 1, 256)
    Path(small, 64).prefill(tuple(range(40)))  # libraries are loaded and warm
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model = make_model(128, 4, length + NEW)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    keys = kv_bytes(model.config, 4) * (length + NEW)
    path = Path(model, length + NEW)
    began = time.perf_counter()
    path.prefill(tuple((7 * i) % 2000 for i in range(length)))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {
        "tokens": length, "weights": weights, "keys_and_values": keys, "peak": peak,
        "peak_over_planned": round(peak / (weights + keys), 3), "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    """Print one JSON object a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["grid", "memory"])
    parser.add_argument("--longest", type=int, default=4096, help="Longest haystack of the grid, in tokens.")
    parser.add_argument("--tokens", type=int, help="One length of `memory`, in this process.")
    given = parser.parse_args()
    if given.what == "grid":
        print(json.dumps(grid(given.longest)))
    elif given.tokens:
        print(json.dumps(memory(given.tokens)))
    else:
        for tokens in (32768, 65536):  # peaks of one process add up
            subprocess.run([sys.executable, __file__, "memory", "--tokens", str(tokens)], check=True)


if __name__ == "__main__":
    main()
