"""Generation speed: padded batches of 8 against continuous batching behind a shared prefix.

    python benchmarks/generation.py --data-root DIR [--benchmark gsm8k_gen_17d0dc] [--rows 24] [--repeats 3]

Real prompts, a random Llama (hidden 512, 8 layers, vocabulary 92,544, float32), and output lengths from a
seeded long-tailed schedule of 20 to 400 tokens, of which neither path knows anything in advance. The paths
take turns in one process; the medians are compared. Exit status 1 when an output differs between paths.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from evalkit.api import load_benchmark
from evalkit.core.records import GenSettings, Reply, Request
from evalkit.engines.hf.generate.plain import Writer, generate
from evalkit.engines.hf.generate.stop_criteria import RowPlan, StopCriteria
from evalkit.engines.hf.generate.stream import prefix_length, stream, stream_fits
from evalkit.engines.hf.tokens import Encoded
from evalkit.engines.tokenizer import TextTokenizer, load_tokenizer

MAX_OUT, SHORTEST, LONGEST = 400, 20, 400
MEDIAN_LENGTH, SPREAD = 90.0, 0.7
VOCABULARY, HIDDEN, LAYERS, HEADS = 92_544, 512, 8, 8
PLAIN_ROWS, SLOTS, TOKENS = 8, (8, 16), 1 << 15
BOS = 1
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Answers = Callable[[], Iterator[Reply]]


@dataclass(frozen=True)
class Tokens:
    """A text tokenizer with the calls that generation makes of one from transformers."""

    inner: TextTokenizer
    bos_token_id: int = BOS
    pad_token_id: int | None = None

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """Text of the ids."""
        return self.inner.decode(ids)


@dataclass(frozen=True)
class Timing:
    """One pass of one path over all rows."""

    seconds: float
    """By the clock that was chosen."""
    peak: int
    """Peak memory above what the process held before, in bytes."""
    texts: Mapping[str, str | None]
    made: int
    """Tokens generated."""


def schedule(count: int, seed: int) -> list[int]:
    """Output lengths in tokens, log-normal, cut to 20 to 400."""
    rng = random.Random(seed)
    draws = (rng.lognormvariate(0.0, SPREAD) * MEDIAN_LENGTH for _ in range(count))
    return [max(SHORTEST, min(LONGEST, round(draw))) for draw in draws]


def make_model(seed: int, threads: int) -> Any:
    """The random Llama, which is that of `scoring.py`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from evalkit.engines.hf.tiny import fill_random

    torch.set_num_threads(threads)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=32768,
    )
    model: Any = LlamaForCausalLM(config)
    fill_random(model, seed, 0.05)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def read_items(args: argparse.Namespace, tokenizer: Tokens) -> list[Encoded]:
    """The first rows of a benchmark's subset, encoded as the engine does for a base model."""
    handle = load_benchmark(args.benchmark, args.data_root)
    subset = args.subset or handle.subsets[0]
    items = []
    for sample in handle.samples(subset, args.rows):
        text = str(handle.render(sample))
        gen = GenSettings(MAX_OUT, stop=tuple(handle.benchmark.gen.stop))
        request = Request(sample.id, sample.id, "gen", text=text, gen=gen)
        items.append(Encoded(request, (BOS, *tokenizer.inner.encode(text))))
    return items


@contextmanager
def forced_lengths(lengths: Mapping[str, int]) -> Iterator[None]:
    """Rows end at the scheduled length; admission and batching see the common limit only."""
    original = Writer.plan

    def plan(self: Writer, item: Encoded) -> RowPlan:
        return replace(original(self, item), limit=lengths[item.request.key])

    with patch.object(Writer, "plan", plan):
        yield


def measure(path: Answers, clock: Callable[[], float]) -> Timing:
    """Time and peak memory of one pass."""
    before = _reset_peak()
    began = clock()
    replies = list(path())
    seconds = clock() - began
    texts = {reply.key: reply.text for reply in replies}
    return Timing(seconds, _peak() - before, texts, sum(reply.n_out for reply in replies))


def _reset_peak() -> int:
    """Bytes in use now; the peak is counted from here (Linux: man 5 proc, clear_refs)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return _peak()


def _peak() -> int:
    """Most bytes in use since the last reset (without a reset: since the start)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(name: str, runs: Sequence[Timing], plain: Sequence[Timing]) -> bool:
    """Print one line; whether all outputs agree with the plain path's."""
    seconds = statistics.median(run.seconds for run in runs)
    base = statistics.median(run.seconds for run in plain)
    same = sum(run.texts[key] == text for run in runs for key, text in plain[0].texts.items())
    total = len(runs) * len(plain[0].texts)
    peak = max(run.peak for run in runs) / 2**20
    print(
        f"{name:16s} {seconds:8.1f} s {runs[0].made / seconds:8.1f} tokens/s   ratio {base / seconds:5.2f}   "
        f"same {same}/{total}   peak +{peak:6.0f} MB",
        flush=True,
    )
    return same == total


def main() -> int:
    """Print a table; 1 when an output differs from the plain path's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--benchmark", default="gsm8k_gen_17d0dc")
    parser.add_argument("--subset", default="", help="default: the first")
    parser.add_argument("--tokenizer", type=Path, help="default: tokenizers/internlm2 beside the data root")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: seconds of this process, for a busy machine; threads 1"
    )
    args = parser.parse_args()
    tokenizer = Tokens(load_tokenizer(str(args.tokenizer or args.data_root.parent / "tokenizers" / "internlm2")))
    items, model = read_items(args, tokenizer), make_model(args.seed, args.threads)
    fits, why = stream_fits(model)
    if not fits:
        raise SystemExit(f"the model does not fit: {why}")
    lengths = schedule(len(items), args.seed + 1)
    describe(args, items, lengths)
    common = (model, tokenizer, items, StopCriteria((), (), (), 0), TOKENS)
    paths: dict[str, Answers] = {f"plain, {PLAIN_ROWS} rows": lambda: generate(*common, PLAIN_ROWS)}
    for slots in SLOTS:
        paths[f"stream, {slots} slots"] = lambda slots=slots: stream(*common, slots, PLAIN_ROWS)
    runs: dict[str, list[Timing]] = {name: [] for name in paths}
    with forced_lengths(dict(zip((item.request.key for item in items), lengths, strict=True))):
        for _ in range(args.repeats):
            for name, path in paths.items():
                runs[name].append(measure(path, CLOCKS[args.clock]))
    plain = next(iter(runs.values()))
    return 0 if all([report(name, timings, plain) for name, timings in runs.items()]) else 1


def describe(args: argparse.Namespace, items: Sequence[Encoded], lengths: Sequence[int]) -> None:
    """Print what is measured, and how busy the machine is."""
    prompts = [len(item.ids) for item in items]
    batches = [lengths[i : i + PLAIN_ROWS] for i in range(0, len(lengths), PLAIN_ROWS)]
    waiting = sum(max(batch) * len(batch) for batch in batches) / sum(lengths)
    print(f"{args.benchmark} {args.subset}: {len(items)} prompts of {min(prompts)} to {max(prompts)} tokens, of which")
    print(f"{prefix_length(items)} are shared; outputs of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in")
    print(f"all; waiting for the slowest of {PLAIN_ROWS} rows costs about {waiting:.2f} times the steps.")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {args.threads} threads"
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{device}; {args.repeats} interleaved runs; {args.clock} seconds; {load} at the start", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
