"""How far a run is, kept beside its results so that another terminal can ask (`run.py status`)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from evalkit.core.errors import StoreError
from evalkit.core.records import Job
from evalkit.execution.runner import Progress
from evalkit.results.store import RunStore

WRITE_SECONDS = 1.0


@dataclass(frozen=True)
class Standing:
    """One model on one benchmark, counted in samples."""

    model: str
    benchmark: str
    samples: int
    done: int
    running: int
    """Samples without a reply, of jobs that workers have begun."""


class ProgressLog:
    """Follows the progress of jobs, and writes it to the run's folder once a second."""

    def __init__(
        self,
        store: RunStore,
        all_jobs: Sequence[Job],
        open_jobs: Sequence[Job],
        forward: Progress,
        kept: Sequence[Standing] = (),
    ) -> None:
        """`all_jobs` less `open_jobs` were done before; `forward` is called with the same progress.

        `kept`: what is in the run already and not among the jobs.
        """
        self._store, self._forward, self._kept = store, forward, kept
        self._total: dict[tuple[str, str], int] = {}
        self._before: dict[tuple[str, str], int] = {}
        for job in all_jobs:
            self._add(self._total, job, job.stop - job.start)
            self._add(self._before, job, job.stop - job.start)
        for job in open_jobs:
            self._add(self._before, job, job.start - job.stop)
        self._cost = sum(job.cost for job in open_jobs) or 1.0
        self._shares: dict[int, tuple[Job, float]] = {}
        self._started, self._written = time.time(), 0.0

    def __call__(self, job: Job, share: float) -> None:
        """See `Progress`."""
        self._shares[job.id] = (job, share)
        self._forward(job, share)
        if time.monotonic() - self._written > WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Replace the file. A full disk is reported when replies cannot be written, not here."""
        self._written = time.monotonic()
        done = sum(job.cost * share for job, share in self._shares.values())
        elapsed = time.time() - self._started
        with contextlib.suppress(StoreError):
            self._store.write_progress(
                {
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "started": self._started,
                    "written": time.time(),
                    "seconds_left": elapsed * (self._cost - done) / done if done > 0 else None,
                    "standings": [asdict(s) for s in self._standings()],
                }
            )

    def _standings(self) -> list[Standing]:
        done, running = dict(self._before), dict.fromkeys(self._total, 0)
        for job, share in self._shares.values():
            count = job.stop - job.start
            self._add(done, job, round(count * share))
            if 0 < share < 1:
                self._add(running, job, count - round(count * share))
        standings = [Standing(m, b, n, min(n, done.get((m, b), 0)), running[m, b]) for (m, b), n in self._total.items()]
        return [*self._kept, *standings]

    @staticmethod
    def _add(counts: dict[tuple[str, str], int], job: Job, count: int) -> None:
        where = (job.model, job.benchmark)
        counts[where] = counts.get(where, 0) + count


def read_standings(content: Mapping[str, Any]) -> list[Standing]:
    """The standings that a progress file holds; those of workers that are gone run no more."""
    return [replace(Standing(**entry), running=0) for entry in content.get("standings", ())]
