"""Time of a step for the search for stop strings, late in long outputs.

    python benchmarks/stops.py [--rows 256] [--tokens 2048] [--steps 20] [--tokenizer DIR]

Rows of random text that hold none of the stops. Three ways take turns in one process: the text of all new
tokens decoded at every step; the text of the last tokens; and the search token by token that the engine uses.
The tokenizer is a checkpoint's, or a byte-level one trained on the spot. Exit status 1 when the ways differ on
where a row with a stop ends.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.engines.hf.generate.stop_criteria import RowEnd, RowPlan, StopFinders, decode
from evalkit.engines.hf.tiny import generated_corpus, train_tokenizer

STOPS = ("\n\nQuestion:", "</s>", "\nQ:", "```")
TAIL = 4 * max(map(len, STOPS)) + 8
Rows = list[list[int]]


def main() -> int:
    """Print the milliseconds of a step, each way; 1 when they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tokenizer", default="")
    options = parser.parse_args()
    tokenizer = load(options.tokenizer)
    rows = random_rows(tokenizer, options.rows, options.tokens)
    times = timed(tokenizer, rows, options.steps)
    for name, seconds in times.items():
        print(f"{name:32} {1000 * statistics.median(seconds):9.3f} ms a step, at most {1000 * max(seconds):.3f}")
    return 0 if agree(tokenizer, rows) else 1


def load(folder: str) -> Any:
    """The tokenizer of a checkpoint, or a small one of our own."""
    if not folder:
        return train_tokenizer(generated_corpus(0), 2048, False, 1 << 20)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def random_rows(tokenizer: Any, count: int, length: int) -> Rows:
    """Token ids of made-up lines, without any of the stops."""
    rng, lines = random.Random(0), [line.replace("```", "") for line in generated_corpus(1)]
    ids = [list(tokenizer(f" {line}\n", add_special_tokens=False)["input_ids"]) for line in lines]
    out: Rows = []
    for _ in range(count):
        row: list[int] = []
        while len(row) < length:
            row += rng.choice(ids)
        out.append(row[:length])
    return out


def timed(tokenizer: Any, rows: Rows, steps: int) -> dict[str, list[float]]:
    """Seconds of each of the last steps, each way."""
    start = len(rows[0]) - steps
    ends = watch(StopFinders(tokenizer), rows, start)
    ways: dict[str, Callable[[int], object]] = {
        "everything decoded": lambda at: [holds(tokenizer, row[: at + 1]) for row in rows],
        "the last tokens decoded": lambda at: [holds(tokenizer, row[: at + 1][-TAIL:]) for row in rows],
        "token by token": lambda at: [end.add(row[at]) for end, row in zip(ends, rows, strict=True)],
    }
    out: dict[str, list[float]] = {name: [] for name in ways}
    for at in range(start, len(rows[0])):
        for name, step in ways.items():
            began = time.perf_counter()
            step(at)
            out[name].append(time.perf_counter() - began)
    return out


def watch(finders: StopFinders, rows: Rows, start: int) -> list[RowEnd]:
    """The rows with their tokens up to `start`."""
    ends = [RowEnd(RowPlan(1 << 30, STOPS, False), finders) for _ in rows]
    for end, row in zip(ends, rows, strict=True):
        for token in row[:start]:
            end.add(token)
    return ends


def holds(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether the text of the ids holds a stop."""
    text = decode(tokenizer, ids, False)
    return any(stop in text for stop in STOPS)


def agree(tokenizer: Any, rows: Rows) -> bool:
    """Whether a row into which a stop was put ends at the same token both ways."""
    finders = StopFinders(tokenizer)
    for number, row in enumerate(rows[:16]):
        stop = tokenizer(STOPS[number % len(STOPS)], add_special_tokens=False)["input_ids"]
        ids = [*row[: 50 + number], *stop, *row[50 + number : 80]]
        end = RowEnd(RowPlan(1 << 30, STOPS, False), finders)
        watched = next((i for i, token in enumerate(ids) if end.add(token)), None)
        naive = next((i for i in range(len(ids)) if holds(tokenizer, ids[: i + 1])), None)
        if watched != naive:
            print(f"row {number}: {watched} against {naive}")
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
