"""Time of the scoring side: 100,000 recorded multiple-choice answers, through plan, store, extraction and metric.

    python benchmarks/scoring_side.py [--answers N] [--config mmlu_gen_4d595a] [--profile]

Rows and answers are made up here: letters alone, sentences, long reasoning, answers in Chinese, and
texts that name no option, for which every rule is tried.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.execution.debug import DebugRunner
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import make_plan
from evalkit.scoring.score import Options
from evalkit.session import choose_store, infer, score_run

SUBSETS = ("abstract_algebra", "anatomy", "astronomy", "college_biology")
WORDS = [
    "the",
    "of",
    "a",
    "system",
    "that",
    "which",
    "energy",
    "cell",
    "theory",
    "under",
    "when",
    "value",
    "each",
    "between",
    "light",
    "state",
]
LIMIT_SECONDS = 20.0


def answer(rng: random.Random) -> str:
    """A made-up output."""
    letter = rng.choice("ABCD")
    talk = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(5, 120)))
    forms = (
        letter,
        f"{letter}. {talk[:60]}",
        f"The answer is {letter}.",
        f"Let us think. {talk.capitalize()}.\n\nSo the correct answer is ({letter}), because {talk[:80]}.",
        f"答案是{letter}。{talk[:40]}",
        f"{talk}. I cannot tell.",
        f"Option {letter}: {talk[:50]}",
    )
    return rng.choice(forms)


def make_data(folder: Path, count: int, rng: random.Random) -> Path:
    """A data root in the hub's layout, and the recorded answers, one file a subset; returns the latter."""
    recorded = folder / "made_up"
    recorded.mkdir()
    for number, subset in enumerate(SUBSETS):
        rows = [made_row(subset, i, rng) for i in range(len(range(number, count, len(SUBSETS))))]
        target = folder / "root" / "cais" / "mmlu" / subset
        target.mkdir(parents=True)
        for split, part in (("test", rows), ("dev", rows[:5])):
            (target / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part))
        lines = [json.dumps({"index": i, "prediction": answer(rng)}, ensure_ascii=False) for i in range(len(rows))]
        (recorded / f"{subset}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return recorded


def made_row(subset: str, number: int, rng: random.Random) -> dict[str, object]:
    """A question in the hub's schema."""
    text = " ".join(rng.choice(WORDS) for _ in range(30))
    choices = [" ".join(rng.choice(WORDS) for _ in range(6)) for _ in "ABCD"]
    return {"question": f"{number}: {text}?", "subject": subset, "choices": choices, "answer": rng.randrange(4)}


def main() -> int:
    """Print the seconds of each part; 1 when extraction and metrics take too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--config", default="mmlu_gen_4d595a")
    parser.add_argument("--profile", action="store_true", help="print where the time of scoring goes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorded = make_data(folder, args.answers, random.Random(0))
        marks = [("start", time.perf_counter(), time.process_time())]
        options = RunOptions(
            models=(f"recorded:{recorded}",),
            datasets=(f"{args.config}:{','.join(SUBSETS)}",),
            data_root=str(folder / "root"),
        )
        planned = make_plan(options)
        marks.append(("rows read, checked and matched", time.perf_counter(), time.process_time()))
        store, _ = choose_store(planned, folder / "outputs", [], new=True, reuse=None)
        infer(planned, store, DebugRunner(), lambda title, jobs: lambda job, share: None)
        marks.append(("answers taken into the store", time.perf_counter(), time.process_time()))
        profile = cProfile.Profile()
        finished = profile.runcall(score_run, store, Options(), planned) if args.profile else None
        finished = finished or score_run(store, Options(), planned)
        marks.append(("extraction, metric, tables", time.perf_counter(), time.process_time()))
    if args.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(30)
    print("    wall      CPU")
    for (what, at, cpu), (_, before, cpu_before) in zip(marks[1:], marks, strict=False):
        print(f"{at - before:8.2f} {cpu - cpu_before:8.2f} s  {what}")
    total, scoring = marks[-1][1] - marks[0][1], marks[-1][1] - marks[-2][1]
    head = next(s for s in finished.scores if s.level == "headline")
    print(f"{total:8.2f} s in all, {head.n:,} answers; scoring {1e6 * scoring / head.n:.0f} µs an answer")
    print(f"score {head.value:.2f} over {head.n} of {head.n_expected}; limit {LIMIT_SECONDS:.0f} s for scoring")
    return 0 if scoring < LIMIT_SECONDS and head.n == args.answers else 1


if __name__ == "__main__":
    sys.exit(main())
