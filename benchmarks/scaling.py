"""Efficiency of many workers: an engine that sleeps stands for one that computes on a device of its own.

    python benchmarks/scaling.py --data-root ROOT [--workers 1 8 64] [--seconds 0.2]

All of MMLU and CMMLU by ppl. Fewer workers get fewer rows (`--limit`), so that every run takes about as
long. Efficiency is requests × seconds ÷ (workers × wall time), from the start of the command to the last
reply: start-up, reading data, rendering prompts, writing replies and idling at the end all count against it.
The processor time and memory are those of the command's own process; workers are processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ("mmlu_ppl_ac766d", "cmmlu_ppl_041cbf")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """One run."""

    requests: int
    wall: float
    """Seconds from the start of the command to its end; nothing is scored."""
    cpu: float
    """Processor seconds of the command's own process."""
    memory: tuple[int, int]
    """Resident bytes of that process in the middle and at most."""


def run(workers: int, seconds: float, limit: int | None, data_root: str, folder: Path) -> Measured:
    """Run the command to the end of inference."""
    (folder / "model_configs").mkdir(parents=True, exist_ok=True)
    (folder / "model_configs" / "sleepy.yaml").write_text(
        f"path: sleepy\nkind: base\nengine: fake\noptions: {{seconds: {seconds}}}\n"
    )
    work = folder / f"work{workers}"
    command = [
        sys.executable, str(ROOT / "run.py"), "--models", "sleepy", "--datasets", *DATASETS, "--mode", "infer",
        "--data-root", data_root, "--config-dir", str(folder), "--work-dir", str(work),
        "--max-num-workers", str(workers), *(["--limit", str(limit)] if limit else []),
    ]  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    watched = list(watch(process))
    wall = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"the run failed with status {process.returncode}")
    sizes = [size for _, size in watched]
    return Measured(count_replies(work), wall, watched[-1][0], (sizes[len(sizes) // 2], max(sizes)))


def watch(process: subprocess.Popen[bytes]) -> Iterator[tuple[float, int]]:
    """(processor seconds, resident bytes) of a process, twice a second until it ends."""
    while process.poll() is None:
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            break
        yield (int(fields[11]) + int(fields[12])) / TICKS, pages * os.sysconf("SC_PAGE_SIZE")
        time.sleep(0.5)
    process.wait()


def count_replies(work: Path) -> int:
    """Reply lines of all workers, each read as JSON."""
    files = work.glob("*/replies/**/*.jsonl")
    return sum(1 for file in files for line in file.read_bytes().splitlines() if json.loads(line))


def main() -> int:
    """Print a line for every number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=0.2, help="sleep a request")
    parser.add_argument("--rows", type=int, default=200, help="rows of a subset for the most workers; 0: all")
    args = parser.parse_args()
    most = max(args.workers)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for workers in args.workers:
        limit = max(1, round((args.rows or 200) * workers / most)) if workers < most or args.rows else None
        with tempfile.TemporaryDirectory() as folder:
            m = run(workers, args.seconds, limit, args.data_root, Path(folder))
        ideal = m.requests * args.seconds / workers
        middle, peak = (size / 2**20 for size in m.memory)
        print(
            f"{workers:3} workers: {m.requests:7,} requests in {m.wall:6.1f} s, ideal {ideal:6.1f} s, efficiency "
            f"{100 * ideal / m.wall:5.1f}%; driver {m.cpu:5.1f} s of processor time ({100 * m.cpu / m.wall:.0f}% of a "
            f"core), {middle:.0f} MB in the middle, {peak:.0f} MB at most",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
