"""Start-up times of commands that compute nothing, and of the first forward pass.

`python benchmarks/startup.py [--rounds N]` prints the median of N rounds in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = [sys.executable, str(ROOT / "run.py")]
LIGHT = {
    "--help": ["--help"],
    "list datasets": ["list", "datasets"],
    "list models": ["list", "models"],
    "list": ["list"],
    "show mmlu": ["show", "mmlu:anatomy", "--data-root", "samples"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one command that must succeed."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for name, args in LIGHT.items():
        print(f"{name:32} {statistics.median(seconds([*RUN, *args]) for _ in range(rounds)):6.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "tiny")
        subprocess.run([*RUN, "make-tiny", model], check=True, capture_output=True, cwd=ROOT)
        one = ["--hf-path", model, "--datasets", "mmlu_ppl_ac766d:anatomy", "--data-root", "samples", "--limit", "1"]
        times = [seconds([*RUN, *one, "--work-dir", folder, "--new"]) for _ in range(rounds)]
        print(f"{'tiny model, one question':32} {statistics.median(times):6.2f} s  (launch to table)")


if __name__ == "__main__":
    main()
