"""Trains the embedded model: from a seed to the tokenizer, both checkpoints, the demo benchmarks' rows and the log.

    python -m tools.train_embedded --items-only       # only the benchmark rows
    python -m tools.train_embedded                    # everything; goes on where it was stopped
    python -m tools.train_embedded --small --steps 20 --out /tmp/x   # a tiny model, for tests

The rows and the tokenizer are the same on every machine; the weights are those of this machine, its
number of threads and its torch (see docs/embedded.md).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.embedded.corpus import sample
from tools.embedded.items import write_items
from tools.embedded.tokens import train_tokenizer

TARGET = Path(__file__).resolve().parents[1] / "evalkit/builtin/embedded"
TOKENIZER_TEXTS = 18_000


def plan(small: bool, steps: int | None) -> tuple[Any, list[Any]]:
    """(the model's shape, the stages of the training)."""
    from tools.embedded.train import Shape, Stage

    lengths = (128,) * 3 + (256,) * 2 + (512,) * 2 + (1024,) * 5
    base = Stage("plain", steps=1200, rate=2e-3, lengths=lengths, early=400)
    chat = Stage("chat", steps=250, rate=1e-3, lengths=(512, 1024), warmup=20, keep_plain=4)
    stages, shape = [base, chat], Shape()
    if small:
        shape = Shape(hidden=32, layers=2, heads=2, feed_forward=64)
        stages = [replace(s, lengths=(128,), short_rows=4, short_length=160, long_tokens=512) for s in stages]
    return shape, [replace(s, steps=steps, warmup=min(s.warmup, steps // 4)) for s in stages] if steps else stages


def main() -> None:
    """Write the rows, then train base and chat model, each saved as soon as it is ready."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of data, base and chat")
    parser.add_argument("--work", type=Path, default=Path(".train"), help="folder of the log and the saved states")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of each stage, in place of the usual number")
    parser.add_argument("--small", action="store_true", help="a tiny model on small batches")
    parser.add_argument("--fast", action="store_true", help="compiled, in bfloat16: three times as fast where it works")
    parser.add_argument("--items-only", action="store_true")
    options = parser.parse_args()
    write_items(options.out / "data")
    if not options.items_only:
        run(options)


def run(options: argparse.Namespace) -> None:
    """Tokenizer and both stages."""
    from tools.embedded.checkpoint import save
    from tools.embedded.train import fixed, new_model, thin_log, train, write_log

    options.work.mkdir(parents=True, exist_ok=True)
    fixed(options.threads)
    inner = train_tokenizer(sample(TOKENIZER_TEXTS))
    shape, stages = plan(options.small, options.steps)
    model = new_model(shape, inner, options.seed)
    for stage in stages:
        for record in train(model, inner, stage, options.seed, options.work, options.fast):
            write_log(options.work / "log.jsonl", record)
            if record["step"] % 50 == 0:
                print(json.dumps(record), flush=True)
        save(model, inner, options.out / ("chat" if stage.style == "chat" else "base"), chat=stage.style == "chat")
    thin_log(options.work / "log.jsonl", options.out / "training_log.jsonl")


if __name__ == "__main__":
    main()
