"""Checks evalkit on a CUDA device in one call: are the numbers right, and how fast is it.

    python benchmarks/gpu.py --out DIR [--data-root ROOT] [--tokenizer FOLDER] [--only PART[:STEP,…] …]
    python benchmarks/gpu.py --out DIR --rehearse

`correct` compares the device with the CPU on small models; `scoring`, `generation` and `long` time a random
model of InternLM2-7B's shape. Each part runs in a process of its own with a time limit, so a crash or a hang
costs the other parts nothing. DIR gets PART.json (figures and tracebacks, rewritten after every figure),
PART.log and table.txt. `--rehearse` runs the same steps on the CPU with tiny models and, unless --data-root is
given, the package's sample data. docs/gpu.md says how to read the figures.
Exit status 1 when a step failed, a part did not finish, or a figure is outside its limit.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_parts.recorder import FAULTS, PartOptions, Recorder, clear, read_part, render

LIMITS: Mapping[str, int] = {"correct": 140, "scoring": 180, "generation": 120, "long": 100}
"""Seconds of each part; together at most 9 minutes."""
TOTAL = 540
LEAST_SHARED_MEMORY = 20 << 30
"""Bytes that must be free under /dev/shm for the checkpoint to go there."""
AT_A_TIME_REHEARSED = 2
"""Parts that a rehearsal runs at a time; on a device they would disturb one another."""
GRACE = 5
"""Seconds before its limit at which a part writes down where it hangs."""


@dataclass(frozen=True)
class Selection:
    """A part, and the steps of it that are wanted; none named means all."""

    part: str
    steps: tuple[str, ...] = ()


def main() -> int:
    """Run the chosen parts and print the table; 1 when anything failed."""
    args = arguments()
    if args.part:
        return run_part(args)
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    chosen = selections(args.only)
    for selection in chosen:
        clear(out / f"{selection.part}.json")
    with tempfile.TemporaryDirectory(prefix="evalkit-gpu-", dir=scratch_parent(args.rehearse)) as scratch:
        args.scratch = Path(scratch)
        deadline = time.monotonic() + args.total

        def run(selection: Selection) -> None:
            own = args.limits.get(selection.part, LIMITS[selection.part] * args.scale)
            outcome = supervise(selection, args, min(own, deadline - time.monotonic()))
            print(render([read_part(out, selection.part, outcome)]), flush=True)

        if args.rehearse:
            with ThreadPoolExecutor(AT_A_TIME_REHEARSED) as pool:
                list(pool.map(run, chosen))
        else:
            for selection in chosen:
                run(selection)
    parts = [read_part(out, name) for name in LIMITS if (out / f"{name}.json").exists()]
    table = render(parts)
    (out / "table.txt").write_text(table + "\n", encoding="utf-8")
    print(f"\n{'all parts':=^100}\n{table}\nwritten to {out}")
    return 0 if all(part["good"] for part in parts) else 1


def selections(only: Sequence[str]) -> list[Selection]:
    """What to run, in the order of `LIMITS`."""
    asked: dict[str, tuple[str, ...]] = {}
    for text in only or LIMITS:
        name, _, steps = text.partition(":")
        if name not in LIMITS:
            raise SystemExit(f"unknown part {name!r}; parts: {', '.join(LIMITS)}")
        asked[name] = asked.get(name, ()) + tuple(step for step in steps.split(",") if step)
    return [Selection(name, asked[name]) for name in LIMITS if name in asked]


def scratch_parent(rehearse: bool) -> str | None:
    """Folder of the temporary files: memory, where the large checkpoint fits there; None: the usual one."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > LEAST_SHARED_MEMORY
    return str(memory) if roomy and not rehearse else None


def supervise(selection: Selection, args: argparse.Namespace, limit: float) -> str:
    """Run one part in a process of its own; why it did not end well, else nothing."""
    if limit <= GRACE:
        return "not started: the time is used up"
    command = [sys.executable, str(Path(__file__).resolve()), "--part", selection.part, "--out", str(args.out)]
    command += ["--scratch", str(args.scratch), "--limit", f"{limit:.0f}"]
    command += ["--data-root", args.data_root] if args.data_root else []
    command += ["--tokenizer", str(args.tokenizer)] if args.tokenizer else []
    command += ["--rehearse"] if args.rehearse else []
    command += [f"--steps={','.join(selection.steps)}"] if selection.steps else []
    command += [part for fault in args.fault for part in ("--fault", fault)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if args.rehearse:
        # tiny models compute fastest on one thread
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (args.out / f"{selection.part}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True, text=True
        )
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        return f"stopped after its time limit of {limit:.0f} s"
    finally:
        # the commands that the part started, and their workers, too
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return "" if status == 0 else f"ended with status {status}"


def run_part(args: argparse.Namespace) -> int:
    """The inside of a part's process."""
    import faulthandler

    faulthandler.enable()
    faulthandler.dump_traceback_later(max(1.0, args.limit - GRACE))
    faults = dict(fault.split("=") for fault in args.fault)
    options = PartOptions(
        part=args.part,
        out=args.out,
        scratch=args.scratch,
        data_root=args.data_root or ("samples" if args.rehearse else os.environ.get("EVALKIT_DATA", "")),
        tokenizer=args.tokenizer,
        rehearse=args.rehearse,
        until=time.monotonic() + args.limit,
        steps=tuple(step for step in args.steps.split(",") if step),
        fault=faults.get(args.part, ""),
    )
    recorder = Recorder(options)
    recorder.run(lambda: steps_of(args.part, recorder))
    return 0


def steps_of(part: str, recorder: Recorder) -> Mapping[str, Any]:
    """The steps of a part by name; its module is imported here, so that a fault in it stays in the part."""
    import importlib

    steps: Mapping[str, Any] = importlib.import_module(f"gpu_parts.{part}").steps(recorder)
    return steps


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART[:STEP,…]", help="rerun these parts or steps")
    parser.add_argument("--data-root", default="", help="default: EVALKIT_DATA; in a rehearsal `samples`")
    parser.add_argument("--tokenizer", type=Path, help="default: tokenizers/internlm2 beside the data root, else tiny")
    parser.add_argument("--total", type=float, default=TOTAL, help="seconds of the whole call")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the time limits of the parts")
    parser.add_argument(
        "--part-limit", action="append", default=[], metavar="PART=SECONDS", help="another time limit for a part"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="PART=KIND",
        help=f"plant a fault after the part's first step, to test the rest: {', '.join(FAULTS)}",
    )
    for name, kind in (("--part", str), ("--steps", str), ("--limit", float), ("--scratch", Path)):
        parser.add_argument(name, type=kind, default="" if kind is str else None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for fault in args.fault:
        part, _, kind = fault.partition("=")
        if part not in LIMITS or kind not in FAULTS:
            parser.error(f"--fault {fault}: give one of {', '.join(LIMITS)}, =, and one of {', '.join(FAULTS)}")
    args.limits = dict(part_limit(parser, text) for text in args.part_limit)
    if not args.part and not args.rehearse and not (args.data_root or os.environ.get("EVALKIT_DATA")):
        parser.error("name the data: --data-root ROOT or EVALKIT_DATA; --rehearse uses the sample data")
    return args


def part_limit(parser: argparse.ArgumentParser, text: str) -> tuple[str, float]:
    """A part and its seconds out of PART=SECONDS."""
    part, _, seconds = text.partition("=")
    if part not in LIMITS or re.fullmatch(r"\d+(\.\d+)?", seconds) is None:
        parser.error(f"--part-limit {text}: give one of {', '.join(LIMITS)}, =, and seconds")
    return part, float(seconds)


if __name__ == "__main__":
    sys.exit(main())
