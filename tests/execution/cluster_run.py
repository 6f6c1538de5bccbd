"""Runs the command line on a cluster and breaks something on the way; called inside the tools' clusters.

    python -m tests.execution.cluster_run WORK COUNT BREAK ARGUMENT…

When COUNT answers are there, the shell command BREAK is run, once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests import helpers


def main() -> int:
    """The exit code of the run; its table goes to standard output."""
    work, count, breaker, *arguments = sys.argv[1:]
    process = subprocess.Popen([*helpers.command(*arguments), "--work-dir", work])
    while process.poll() is None:
        folders = [path.parent for path in Path(work).glob("*/manifest.json")]
        if breaker and folders and len(helpers.reply_keys(folders[0])) >= int(count):
            print(subprocess.run(breaker, shell=True, capture_output=True, text=True), file=sys.stderr)
            breaker = ""
        time.sleep(0.05)
    if breaker:
        print("the run ended before it could be broken", file=sys.stderr)
        return 77
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
