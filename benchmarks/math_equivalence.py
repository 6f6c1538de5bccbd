"""Times the equivalence checks of MATH: gold answers against perturbed ones, and hostile pairs.

    python benchmarks/math_equivalence.py --data-root DIR [--pairs 5000]

Every pair goes through extraction and metric of the published config, on one core, as in a run. Half of the
predictions are the gold solution rewritten, half are wrong. Then come pairs that are as long as answers may be
and made to keep a searching pattern busy; the time limit of a pair holds for these too. Exits with 1 where the
total or a single pair takes longer than allowed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.api import BenchmarkHandle, load_benchmark
from evalkit.core.errors import DataError
from evalkit.scoring.extract.boxed import boxed_answer
from evalkit.scoring.metrics.equivalence import LONGEST

CONFIG = "math_0shot_gen_393424"
TOTAL_SECONDS, PAIR_SECONDS = 60.0, 1.0
PERTURB: tuple[Callable[[str], str], ...] = (
    lambda a: f"So we get $\\boxed{{{a}}}$.",
    lambda a: f"\\boxed{{ {a.replace('frac', 'dfrac')} }}",
    lambda a: f"\\boxed{{{a.replace(',', ', ')}\\text{{ units}}}}",
    lambda a: f"Hence the final answer is ${a}$",
    lambda a: f"\\boxed{{{a}+1}}",
    lambda a: f"\\boxed{{{a[::-1]}x}}",
    lambda a: f"I think the answer is {a} or {a}{a}, which is a longer way to say it. " * 20,
    lambda a: "No answer is reached here, " + f"as ${a}$ leads nowhere, " * 50,
)
HOSTILE = (
    "\\text{", "\\text{(", "\\mbox{", "\\overline{", "oxed{", "1", "1.", "1.0", ".0", "\\frac", "\\frac1", "\\sqrt1",
    "/", "{", "}", "$", "answer is ", "\\le", "a ", "\\\\", "x=", "\\text{}",
)  # fmt: skip


def golds_of(root: str | None) -> tuple[BenchmarkHandle, list[str]]:
    """The benchmark and its gold solutions, of the subsets that the data root has."""
    handle = load_benchmark(CONFIG, root)
    found: list[str] = []
    for subset in handle.subsets:
        try:
            found += [str(sample.gold) for sample in handle.samples(subset)]
        except DataError as error:
            print(f"{subset} left out: {error.message}", file=sys.stderr)
    return handle, found


def timed(handle: BenchmarkHandle, prediction: str, gold: str) -> tuple[float, float]:
    """(seconds, score) of one pair; processor time, as other work on the machine is not ours."""
    begin = time.process_time()
    score = handle.score([prediction], [gold])["accuracy"]
    return time.process_time() - begin, score


def report(name: str, results: list[tuple[float, float]]) -> tuple[float, float]:
    """Print and return the total and the slowest time."""
    times = [seconds for seconds, _ in results]
    total, slowest, right = sum(times), max(times), sum(score for _, score in results) / len(results)
    print(f"{name}: {len(times)} pairs in {total:.2f} s, slowest {1000 * slowest:.1f} ms, {right:.1f} % equivalent")
    return total, slowest


def main() -> int:
    """Time both kinds of pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=None, help="default: EVALKIT_DATA")
    parser.add_argument("--pairs", type=int, default=5000)
    arguments = parser.parse_args()
    handle, golds = golds_of(arguments.data_root)
    if not golds:
        print("no gold solutions: give --data-root", file=sys.stderr)
        return 1
    chance = random.Random(0)
    pairs = []
    for i in range(arguments.pairs):
        gold = golds[i % len(golds)]
        pairs.append((chance.choice(PERTURB)(boxed_answer(gold, {}) or "0"), gold))
    total, slowest = report("perturbed", [timed(handle, *pair) for pair in pairs])
    texts = [(part * LONGEST)[: LONGEST - 1] for part in HOSTILE]
    boxed = [f"\\boxed{{{text}}}" for text in texts]
    long = [(prediction, f"\\boxed{{{text}1}}") for prediction in (*boxed, *texts) for text in texts[:4]]
    _, worst = report(f"hostile, {LONGEST} characters", [timed(handle, *pair) for pair in long])
    within = total < TOTAL_SECONDS and max(slowest, worst) < PAIR_SECONDS
    print(f"limits: {TOTAL_SECONDS:.0f} s for all, {PAIR_SECONDS:.0f} s a pair: {'kept' if within else 'EXCEEDED'}")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
