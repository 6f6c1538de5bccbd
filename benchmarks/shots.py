"""Time against the number of exemplars: it grows with the unique tokens, not with the tokens that are sent.

    python benchmarks/shots.py --data-root ROOT --tokenizer FOLDER [--plot FILE.png] [--runs 3]

CMMLU with 0, 1, 2 and 5 exemplars, one subject by ppl; GSM8K with 0, 4, 8 and 20 exemplars of its train
split, 32 questions by generation of exactly 4 tokens, so that prompts decide the time. The model is the
random Llama of `scoring.py`. Unique tokens are those of the prompts' trie, and for GSM8K also those that are
generated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from generation import TOKENS, Tokens
from scoring import BOS, parser_of_model

from evalkit.api import load_benchmark
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request
from evalkit.core.sequences import unique_length
from evalkit.engines.hf.generate.stop_criteria import StopCriteria
from evalkit.engines.hf.generate.stream import stream
from evalkit.engines.hf.memory import choose_budget
from evalkit.engines.hf.score.pass_width import tree_limits
from evalkit.engines.hf.score.self_check import try_tree
from evalkit.engines.hf.score.tree import score_tree
from evalkit.engines.hf.tokens import Encoded
from evalkit.engines.tokenizer import load_tokenizer

CMMLU, GSM8K = "cmmlu_ppl_041cbf", "gsm8k_gen_17d0dc"
CMMLU_SHOTS, GSM8K_SHOTS = (0, 1, 2, 5), (0, 4, 8, 20)
ROWS, SLOTS, NEW = 32, 16, 4


@dataclass(frozen=True)
class Point:
    """One number of exemplars."""

    name: str
    shots: int
    sent: int
    unique: int
    seconds: float

    @property
    def micros(self) -> float:
        """Microseconds a unique token."""
        return 1e6 * self.seconds / self.unique


def cmmlu(data_root: str, tokenizer: Any, subject: str) -> Iterator[tuple[int, list[Encoded]]]:
    """(exemplars, full texts of all options)."""
    for shots in CMMLU_SHOTS:
        handle = load_benchmark(CMMLU, data_root, overrides=(f"shots.rows={list(range(shots))}",))
        items = []
        for sample in handle.samples(subject):
            prompts: Any = handle.render(sample)
            for label, text in prompts.items():
                ids = (BOS, *tokenizer.encode(str(text)))
                items.append(Encoded(Request(f"{sample.id} {label}", sample.id, "ppl"), ids, len(ids) - 1))
        yield shots, items


def gsm8k(data_root: str, tokenizer: Any) -> Iterator[tuple[int, list[Encoded]]]:
    """(exemplars, prompts); exemplars are the first rows of the train split."""
    train = load_benchmark(GSM8K, data_root, overrides=("data.split=train",)).samples(limit=max(GSM8K_SHOTS))
    test = load_benchmark(GSM8K, data_root).samples(limit=ROWS)
    for shots in GSM8K_SHOTS:
        head = "".join(f"Question: {s.row['question']}\nAnswer: {s.row['answer']}\n\n" for s in train[:shots])
        items = []
        for sample in test:
            ids = (BOS, *tokenizer.encode(f"{head}Question: {sample.row['question']}\nAnswer:"))
            request = Request(sample.id, sample.id, "gen", text="x", gen=GenSettings(NEW))
            items.append(Encoded(request, ids))
        yield shots, items


def measure(run: Callable[[], Iterator[Reply]]) -> float:
    """Seconds of one run."""
    began = time.perf_counter()
    for _ in run():
        pass
    return time.perf_counter() - began


def points(args: argparse.Namespace) -> list[Point]:
    """All measurements; the numbers of exemplars take turns."""
    make, arguments = parser_of_model()
    model = make(arguments)
    attention = try_tree(model, 0).attention
    if attention is None:
        raise SystemExit("the model does not fit the tree")
    budget = choose_budget(ModelSpec("m", ".", "base"), model, model.device, True).score_tokens
    words = Tokens(load_tokenizer(args.tokenizer))
    ends = StopCriteria((), (), (), 0)
    cases: list[tuple[str, int, list[Encoded], Callable[[], Iterator[Reply]]]] = []
    for shots, items in cmmlu(args.data_root, words.inner, args.subject):
        limits = tree_limits(model, items, budget, None)
        cases.append(("CMMLU", shots, items, lambda i=items, w=limits: score_tree(model, i, attention, w)))
    for shots, items in gsm8k(args.data_root, words.inner):
        cases.append(("GSM8K", shots, items, lambda i=items: stream(model, words, i, ends, TOKENS, SLOTS, 8)))
    measure(cases[0][3])
    taken: list[list[float]] = [[] for _ in cases]
    for _ in range(args.runs):
        for times, (*_, run) in zip(taken, cases, strict=True):
            times.append(measure(run))
    out = []
    for (name, shots, items, _), times in zip(cases, taken, strict=True):
        written = NEW * len(items) if name == "GSM8K" else 0
        unique = unique_length(item.ids for item in items) + written
        out.append(Point(name, shots, sum(len(i.ids) for i in items) + written, unique, statistics.median(times)))
    return out


def draw(found: Sequence[Point], file: str) -> None:
    """Two panels: time, and time a unique token, against exemplars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for name, mark in (("CMMLU", "o-"), ("GSM8K", "s--")):
        own = [p for p in found if p.name == name]
        shots = [p.shots for p in own]
        left.plot(shots, [p.seconds / own[0].seconds for p in own], mark, label=f"{name}, time")
        left.plot(shots, [p.sent / own[0].sent for p in own], mark, alpha=0.35, label=f"{name}, tokens sent")
        right.plot(shots, [p.micros / own[0].micros for p in own], mark, label=name)
    left.set(title="relative to no exemplars", xlabel="exemplars", yscale="log")
    right.set(title="time per unique token, relative", xlabel="exemplars", ylim=(0, 2.2))
    right.axhline(2, color="grey", linewidth=0.8)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> int:
    """Print the table; 1 when the time per unique token more than doubles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--subject", default="agronomy")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"load average {os.getloadavg()[0]:.1f}; {args.threads} threads; medians of {args.runs} interleaved runs")
    found = points(args)
    worst = 0.0
    for p in found:
        first = next(q for q in found if q.name == p.name)
        worst = max(worst, p.micros / first.micros)
        print(
            f"{p.name} {p.shots:2}-shot: {p.sent:8,} tokens sent, {p.unique:7,} unique, {p.seconds:6.2f} s "
            f"({p.seconds / first.seconds:.2f} times 0-shot), {p.micros:6.0f} µs a unique token "
            f"({p.micros / first.micros:.2f} times)"
        )
    if args.plot:
        draw(found, args.plot)
    return 0 if worst <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
