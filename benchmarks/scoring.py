"""Time of scoring one subject of a multiple-choice benchmark: prefix sharing against padded batches.

    python benchmarks/scoring.py --data-root ROOT [--benchmark cmmlu_ppl_041cbf] [--subject agronomy]
        --tokenizer FOLDER [--shots 0|5] [--questions N] [--plain-questions N] [--runs 3]

Three ways on the same real prompts and the same random Llama (float32), interleaved, medians:
`naive` sends padded batches of 8 full texts, label by label, as harnesses do; `plain` is evalkit's
own path of padded batches, longest first; `tree` shares prefixes. The padded ways may be run on the
first `--plain-questions` only; their seconds are then scaled by the tokens they would send, and the
output says so. Tokenising is timed apart: it is the same for all.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rows import option_texts
from transformers import LlamaConfig, LlamaForCausalLM

from evalkit.api import load_benchmark
from evalkit.core.records import ModelSpec, Request
from evalkit.engines.hf.memory import choose_budget
from evalkit.engines.hf.score.pass_width import tree_limits
from evalkit.engines.hf.score.plain import score, token_losses
from evalkit.engines.hf.score.self_check import try_tree
from evalkit.engines.hf.score.tree import TreeLimits, make_trie, score_tree
from evalkit.engines.hf.tiny import fill_random
from evalkit.engines.hf.tokens import Encoded, group_equal
from evalkit.engines.tokenizer import load_tokenizer

BOS, VOCAB, NAIVE_ROWS, CLOSE = 1, 92_544, 8, 1e-4
Losses = dict[str, float]


@dataclass(frozen=True)
class Timed:
    """One run of one way."""

    losses: Losses
    seconds: float
    cpu: float
    """Seconds of processor time, which other work on the machine disturbs less."""
    tokens: int
    """Tokens forwarded, with padding."""
    peak: int
    """Bytes in use at the peak, above what was in use in front."""


class PeakMemory:
    """Highest resident memory while it is open (on CUDA: the allocator's own peak), in bytes above the start."""

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self.cuda = torch.cuda.is_available()
        self.stop = threading.Event()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.start = self.highest = int(torch.cuda.memory_allocated())
            return self
        self.start = self.highest = self._now()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            self.highest = int(torch.cuda.max_memory_allocated())
            return
        self.stop.set()
        self.thread.join()

    @property
    def bytes(self) -> int:
        """What was added at the peak."""
        return self.highest - self.start

    def _watch(self) -> None:
        while not self.stop.wait(0.005):
            self.highest = max(self.highest, self._now())

    def _now(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_model(args: argparse.Namespace) -> Any:
    """The random Llama."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=args.hidden,
        intermediate_size=4 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=8,
        num_key_value_heads=args.kv_heads,
        max_position_embeddings=8192,
    )
    model = LlamaForCausalLM(config)
    fill_random(model, 0, 0.05)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def encode(args: argparse.Namespace) -> list[list[Encoded]]:
    """Options of each question, as full texts with BOS."""
    if args.option_texts:
        return encode_option_texts(args)
    handle = load_benchmark(args.benchmark, args.data_root)
    if not args.shots:
        bare = str(handle.benchmark.prompt).replace("{{ shots }}", "")
        overrides = ("shots=null", f"prompt={json.dumps(bare)}")
        handle = load_benchmark(args.benchmark, args.data_root, overrides=overrides)
    tokenizer = load_tokenizer(args.tokenizer)
    out = []
    for sample in handle.samples(args.subject, args.questions):
        prompts = handle.render(sample)
        if not isinstance(prompts, dict):
            raise SystemExit(f"{args.benchmark} is not scored by perplexity")
        question = []
        for label, text in prompts.items():
            ids = (BOS, *tokenizer.encode(str(text)))
            question.append(Encoded(Request(f"{sample.id} {label}", sample.id, "ppl", label=label), ids, len(ids) - 1))
        out.append(question)
    return out


def encode_option_texts(args: argparse.Namespace) -> list[list[Encoded]]:
    """Options that are texts of many tokens, behind 10 exemplars (see `rows.option_texts`)."""
    tokenizer = load_tokenizer(args.tokenizer)
    out = []
    for q in option_texts(args.data_root, args.subject, args.questions):
        texts = [(BOS, *tokenizer.encode(q.context + option)) for option in q.options]
        out.append(
            [Encoded(Request(f"{q.id} {i}", q.id, "ppl", label=str(i)), t, len(t) - 1) for i, t in enumerate(texts)]
        )
    return out


def naive(model: Any, questions: Sequence[Sequence[Encoded]]) -> Losses:
    """Label by label, batches of 8 in the order of the rows."""
    items = [question[k] for k in range(len(questions[0])) for question in questions]
    out: Losses = {}
    for at in range(0, len(items), NAIVE_ROWS):
        batch = items[at : at + NAIVE_ROWS]
        for item, losses in zip(batch, token_losses(model, [i.ids for i in batch], 0), strict=True):
            out[item.request.key] = float(losses.sum()) / len(item.ids)
    return out


def timed(model: Any, run: Callable[[], Losses]) -> Timed:
    """Run once; tokens are counted on their way into the model."""
    tokens = 0

    def count(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens += kwargs["input_ids"].numel()

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        with PeakMemory() as memory:
            began, began_cpu = time.perf_counter(), time.process_time()
            losses = run()
            seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    finally:
        handle.remove()
    return Timed(losses, seconds, cpu, tokens, memory.bytes)


def predictions(questions: Sequence[Sequence[Encoded]], losses: Losses) -> list[int]:
    """The likeliest option of each question that was scored."""
    asked = [[losses[i.request.key] for i in q] for q in questions if q[0].request.key in losses]
    return [values.index(min(values)) for values in asked]


def report(
    name: str, runs: Sequence[Timed], scale: float, reference: Timed, questions: Any
) -> tuple[float, float, bool]:
    """Print one way's line; wall and processor seconds of all questions, and whether it agrees."""
    seconds = scale * statistics.median(run.seconds for run in runs)
    cpu = scale * statistics.median(run.cpu for run in runs)
    first = runs[0]
    both = first.losses.keys() & reference.losses.keys()
    apart = max(abs(first.losses[k] - reference.losses[k]) for k in both)
    asked = [q for q in questions if q[0].request.key in both]
    same = sum(
        a == b for a, b in zip(predictions(asked, first.losses), predictions(asked, reference.losses), strict=True)
    )
    print(
        f"{name:6} {seconds:8.2f} s  cpu {cpu:8.2f} s  {scale * first.tokens:11,.0f} tokens forwarded  "
        f"peak {max(run.peak for run in runs) / 2**20:7.0f} MB  "
        f"|dNLL| {apart:.1e}  predictions {same}/{len(asked)}"
        f"{'  (scaled x' + format(scale, '.1f') + ')' if scale != 1 else ''}"
    )
    return seconds, cpu, apart <= CLOSE and same == len(asked)


def main() -> int:
    """Print the table; 1 when the ways disagree."""
    args = arguments()
    torch.set_num_threads(args.threads)
    model = make_model(args)
    began = time.perf_counter()
    questions = encode(args)
    print(f"tokenised in {time.perf_counter() - began:.2f} s; load average {os.getloadavg()[0]:.1f}")
    part = questions[: args.plain_questions or len(questions)]
    items, few = [i for q in questions for i in q], [i for q in part for i in q]
    trie = make_trie(group_equal(items))
    sent = sum(len(i.ids) for i in items)
    scale = sent / sum(len(i.ids) for i in few)
    print(f"{len(questions)} questions, {sent:,} tokens in all texts, {trie.tokens:,} unique: {sent / trie.tokens:.1f}")
    path = try_tree(model, 0)
    if path.attention is None:
        raise SystemExit(path.reason)
    attention = path.attention
    budget = choose_budget(ModelSpec("m", ".", "base"), model, model.device, True).score_tokens
    limits = TreeLimits(args.width, args.stem) if args.width else tree_limits(model, items, budget, None)
    print(f"passes of at most {limits.width} tokens; {torch.get_num_threads()} threads; {path.reason}")
    ways: dict[str, tuple[Callable[[], Losses], float]] = {
        "naive": (lambda: naive(model, part), scale),
        "plain": (lambda: _means(score(model, few, budget, 0)), scale),
        "tree": (lambda: _means(score_tree(model, items, attention, limits)), 1.0),
    }
    if args.only_tree:
        ways = {"tree": ways["tree"]}
    naive(model, part[:1])  # warms up the allocator and the threads
    runs: dict[str, list[Timed]] = {name: [] for name in ways}
    for _ in range(args.runs):
        for name, (run, _scale) in ways.items():
            runs[name].append(timed(model, run))
    seconds = {name: report(name, runs[name], ways[name][1], runs["tree"][0], questions) for name in ways}
    for name in ways:
        wall, cpu = (seconds[name][k] / seconds["tree"][k] for k in range(2))
        print(f"{name} / tree = {wall:.1f} by wall time, {cpu:.1f} by processor time")
    return 0 if all(agrees for *_, agrees in seconds.values()) else 1


def _means(replies: Any) -> Losses:
    return {r.key: r.nll for r in replies}


def parser_of_model() -> tuple[Callable[[argparse.Namespace], Any], argparse.Namespace]:
    """The function that makes the model of the published figures, and its arguments."""
    return make_model, argparse.Namespace(hidden=512, layers=8, kv_heads=8)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument(
        "--tokenizer", required=True, help="a folder or file; the published figures are with InternLM2's"
    )
    parser.add_argument("--benchmark", default="cmmlu_ppl_041cbf")
    parser.add_argument("--subject", default="agronomy")
    parser.add_argument("--shots", type=int, choices=(0, 5), default=5)
    parser.add_argument("--option-texts", action="store_true", help="MMLU's option texts, 10-shot; name a --subject")
    parser.add_argument("--questions", type=int, help="the first N (default: all)")
    parser.add_argument("--plain-questions", type=int, help="padded ways run on the first N, seconds scaled")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--width", type=int, help="tokens of a pass of the tree (default: as the engine chooses)")
    parser.add_argument("--stem", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-tree", action="store_true", help="to try widths")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
