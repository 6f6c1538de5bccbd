"""Memory and speed of scoring a finished run again: a million recorded replies, exact match.

    python benchmarks/million.py [--replies N] [--subsets N] [--draws N] [--characters N] [--profile] [--keep DIR]

The run is made up here and written in the form that inference writes; scoring is `run.py score RUN` in a process of its
own, whose most memory and time are printed. The limits are 1.5 GB and 20,000 verdicts a second on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evalkit.core.records import Reply
from evalkit.execution.pending import index_subset, write_samples
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import Pair, make_plan
from evalkit.session import choose_store

ROOT = Path(__file__).resolve().parents[1]
LIMIT_BYTES, LIMIT_RATE = 1.5e9, 20_000.0
CONFIG = """
row: million
mode: gen
data: {{file: "{{{{ subset }}}}.jsonl"}}
gold: answer
subsets: [{subsets}]
prompt: "{{{{ question }}}}"
gen: {{max_out_len: 64, num_samples: {draws}, temperature: {temperature}}}
extract: [last_number: {{none: "NULL"}}]
metric: accuracy
"""
MODEL = "path: fake\nkind: base\nengine: fake\n"
WORDS = "the sum of all parts is what remains when each was counted once and nothing is left over"


def make_configs(folder: Path, rows: int, subsets: int, draws: int, rng: random.Random) -> None:
    """A benchmark of made-up sums, and a model that is never loaded."""
    data, models = folder / "dataset_configs", folder / "model_configs"
    data.mkdir(parents=True)
    models.mkdir()
    (models / "made_up.yaml").write_text(MODEL)
    names = [f"part{i}" for i in range(subsets)]
    for number, name in enumerate(names):
        with (data / f"{name}.jsonl").open("w") as file:
            for _ in range(len(range(number, rows, subsets))):
                a, b = rng.randrange(1000), rng.randrange(1000)
                file.write(json.dumps({"question": f"What is {a} + {b}?", "answer": str(a + b)}) + "\n")
    text = CONFIG.format(subsets=", ".join(names), draws=draws, temperature=0.7 if draws > 1 else 0)
    (data / "million_gen.yaml").write_text(text)


def make_run(folder: Path, characters: int, rng: random.Random) -> Path:
    """The run's folder with samples, index and replies, as inference leaves them."""
    options = RunOptions(("made_up",), ("million_gen",), config_dirs=(str(folder / "configs"),))
    planned = make_plan(options)
    plan, pair = planned.plan, Pair("made_up", "million_gen")
    store, _ = choose_store(planned, folder / "work", ["made up"], new=True, reuse=None)
    write_samples(plan, [pair], store, ())
    task = plan.task(pair)
    talks = [" ".join(rng.choice(WORDS.split()) for _ in range(characters // 5)) for _ in range(1000)]
    for subset in task.scored:
        samples = task.samples(subset)
        requests = index_subset(plan, pair, store, subset, samples, "w1")
        writer = store.writer(pair.model, pair.benchmark, subset, "w1")
        for sample in samples:
            for request in requests[sample.id]:
                number = sample.gold if rng.random() < 0.7 else str(rng.randrange(2000))
                text = f"{rng.choice(talks)}. It is {number}."
                writer.append(request, Reply(request.key, text=text, n_tokens=12, n_out=64))
        writer.close()
    return store.folder


def measure(run: Path, profile: bool) -> tuple[float, float, int, int]:
    """(seconds, processor seconds, most bytes in memory, verdicts) of scoring the run in a process of its own."""
    profiler = ["-m", "cProfile", "-o", str(run / "profile")] if profile else []
    began = time.perf_counter()
    command = [sys.executable, *profiler, str(ROOT / "run.py"), "score", str(run), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    (headline,) = [s for s in json.loads(done.stdout)["scores"] if s["level"] == "headline"]
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, headline["n"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=1_000_000)
    parser.add_argument("--subsets", type=int, default=50)
    parser.add_argument("--draws", type=int, default=1, help="replies of each sample")
    parser.add_argument("--characters", type=int, default=100, help="length of a reply, about")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--keep", type=Path, help="make the run here and leave it; an existing one is scored again")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    try:
        runs = [p.parent for p in folder.glob("work/*/manifest.json")]
        if not runs:
            rng = random.Random(0)
            make_configs(folder / "configs", options.replies // options.draws, options.subsets, options.draws, rng)
            runs = [make_run(folder, options.characters, rng)]
        seconds, busy, most, verdicts = measure(runs[0], options.profile)
        if options.profile:
            import pstats

            pstats.Stats(str(runs[0] / "profile")).sort_stats("tottime").print_stats(30)
        rate = verdicts / seconds
        print(f"{verdicts:,} verdicts; {busy:.1f} s of one processor, {verdicts / busy:,.0f} a second of it")
        print(f"{seconds:.1f} s, {rate:,.0f} verdicts/s (at least {LIMIT_RATE:,.0f}): {_judge(rate >= LIMIT_RATE)}")
        print(f"{most / 1e6:,.0f} MB at most (limit {LIMIT_BYTES / 1e6:,.0f}): {_judge(most <= LIMIT_BYTES)}")
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _judge(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


if __name__ == "__main__":
    main()
