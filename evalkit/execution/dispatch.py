"""Which job is handed out next, and what becomes of one that failed; the same for every runner.

Pure bookkeeping: no process, no clock. Jobs come costliest first. The last ones are split, so that no
worker idles while another has much left; a job that kills its workers is split until the samples that
do it stand alone, and only these are given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalkit.core.records import Job
from evalkit.execution.runner import JobFailure

TRIES = 2
"""A job that fails is tried once more, in a fresh worker where it killed its own."""
LEAST_SPLIT = 8
"""Parts that are split off for balance have so many samples: each runs the shared prefix anew."""
LEAST_LOAD = 32
"""Samples for which it is worth to load the model once more."""
FUTILE = 8
"""So many failures without a single success in between: the fault lies with the model, not with samples."""
ALL_ALIKE = ("ModelError", "ConfigError", "DataError")
"""Errors that concern every sample: splitting the job would only repeat them."""


@dataclass
class _Try:
    """How often a job may still fail before it is split or given up."""

    left: int = TRIES


class Dispatch:
    """The open jobs of one model."""

    def __init__(self, jobs: Sequence[Job], first_new_id: int, workers: int = 1) -> None:
        """`first_new_id`: parts of split jobs are numbered from here; `workers`: how many share the jobs."""
        self._queue = deque(jobs)
        self._tries: dict[int, _Try] = {}
        self._next_id = first_new_id
        self._workers = workers
        self._in_vain = 0
        self.failures: list[JobFailure] = []

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def useful_workers(self) -> int:
        """How many workers the waiting jobs can keep busy."""
        return sum(max(1, (job.stop - job.start) // LEAST_LOAD) for job in self._queue)

    def cost(self) -> float:
        """Of all that waits."""
        return sum(job.cost for job in self._queue)

    def put_back(self, job: Job) -> None:
        """A job that was taken and not begun."""
        self._queue.appendleft(job)

    def take(self) -> Job | None:
        """The next job, or its first part where the whole would leave other workers idle at the end."""
        if not self._queue:
            return None
        job = self._queue.popleft()
        left = job.cost + self.cost()
        count = job.stop - job.start
        if self._workers > 1 and count >= 2 * LEAST_SPLIT and job.cost > left / (2 * self._workers):
            share = max(LEAST_SPLIT, int(count * left / (2 * self._workers) / job.cost))
            job, rest = self._split(job, min(share, count - LEAST_SPLIT))
            self._queue.appendleft(rest)
        return job

    def done(self, job: Job) -> None:
        """A job that a worker finished, whatever its single replies say."""
        self._in_vain = 0
        self._tries.pop(job.id, None)

    def failed(self, job: Job, cause: str, hint: str = "", log: str = "", kind: str = "") -> list[Job]:
        """Note that a job ended without success; the jobs that are given up for it.

        It is tried again, then split, and one sample alone is given up. `kind` is the error's class.
        """
        tries = self._tries.setdefault(job.id, _Try())
        tries.left -= 1
        self._in_vain += 1
        if self._in_vain >= FUTILE:
            return self._give_up_all(job, cause, hint, log)
        if tries.left > 0:
            self._queue.appendleft(job)
            return []
        del self._tries[job.id]
        if job.stop - job.start == 1 or kind in ALL_ALIKE:
            self.failures.append(JobFailure(job, cause, hint, log))
            return [job]
        for part in self._split(job, (job.stop - job.start) // 2):
            self._tries[part.id] = _Try(1)  # its whole has failed twice
            self._queue.append(part)  # behind the others, whose success tells a bad sample from a bad model
        return []

    def give_up(self, cause: str, hint: str = "", log: str = "") -> list[Job]:
        """Nothing more can be run; the jobs that were waiting."""
        dropped = list(self._queue)
        self._queue.clear()
        self.failures += [JobFailure(job, cause, hint, log) for job in dropped]
        return dropped

    def _give_up_all(self, job: Job, cause: str, hint: str, log: str) -> list[Job]:
        said = f"{cause} ({FUTILE} failures in a row)"
        self.failures.append(JobFailure(job, said, hint, log))
        return [job, *self.give_up(said, hint, log)]

    def _split(self, job: Job, count: int) -> tuple[Job, Job]:
        """The first `count` samples and the others, under numbers of their own."""
        total, middle = job.stop - job.start, job.start + count
        first = replace(job, id=self._next_id, stop=middle, cost=job.cost * count / total)
        second = replace(job, id=self._next_id + 1, start=middle, cost=job.cost * (total - count) / total)
        self._next_id += 2
        return first, second
