"""Which job is assigned next, and what becomes of one that failed; the same for every runner.

Pure bookkeeping: no process, no clock. Jobs come costliest first. The last ones are split, so that no
worker idles while another has much left; a job that kills its workers is split until the samples that
do it stand alone, and only these are given up. After several failures in a row single samples of other
jobs are tried: only when these fail too is the model taken to be at fault.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from dataclasses import replace

from evalkit.core.records import Job
from evalkit.execution.runner import JobFailure

TRIES = 2
"""A job that fails is tried once more, in a fresh worker where it killed its own."""
MIN_SPLIT = 8
"""Least samples of a part that is split off for balance: each part runs the shared prefix anew."""
SAMPLES_PER_LOAD = 32
"""Samples for which it is worth loading the model once more."""
FAILURES_BEFORE_PROBES = 4
"""After so many failures in a row, single samples of other jobs are tried first."""
MAX_CONSECUTIVE_FAILURES = 8
"""So many failures in a row, probes among them: the fault lies with the model, not with samples."""
MIN_FAILED_PROBES = MAX_CONSECUTIVE_FAILURES - FAILURES_BEFORE_PROBES
"""Of these failures so many are probes: with many workers, as many costly jobs may fail at once."""
ERRORS_OF_ALL_SAMPLES = ("ModelError", "ConfigError", "DataError")
"""Errors that concern every sample of a job: splitting it would only repeat them."""


class Dispatch:
    """The open jobs of one model."""

    def __init__(self, jobs: Sequence[Job], first_new_id: int, workers: int = 1, tries: int = TRIES) -> None:
        """`first_new_id`: parts of split jobs are numbered from here; `workers`: how many share the jobs."""
        self._queue = deque(jobs)
        self._tries = tries
        self._tries_left: dict[int, int] = {}
        """Of jobs that have failed, and of their parts."""
        self._next_id = first_new_id
        self._workers = workers
        self._streak = _Streak()
        self.failures: list[JobFailure] = []

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def useful_workers(self) -> int:
        """How many workers the waiting jobs can keep busy."""
        return sum(max(1, (job.stop - job.start) // SAMPLES_PER_LOAD) for job in self._queue)

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
        if self._streak.failures >= FAILURES_BEFORE_PROBES:
            return self._take_probe()
        job = self._queue.popleft()
        left = job.cost + self.cost()
        count = job.stop - job.start
        if self._workers > 1 and count >= 2 * MIN_SPLIT and job.cost > left / (2 * self._workers):
            share = max(MIN_SPLIT, int(count * left / (2 * self._workers) / job.cost))
            job, rest = self._split(job, min(share, count - MIN_SPLIT))
            self._queue.appendleft(rest)
        return job

    def take_all(self) -> list[Job]:
        """Everything that waits, in the order of running it, for workers that get all their jobs at the start."""
        jobs: list[Job] = []
        if self._streak.failures >= FAILURES_BEFORE_PROBES:
            while self._queue and len(jobs) < MIN_FAILED_PROBES:
                jobs.append(self._take_probe())
            jobs += self._queue
            self._queue.clear()
        while (job := self.take()) is not None:
            jobs.append(job)
        return jobs

    def done(self, job: Job) -> None:
        """A job that a worker finished, whatever its single replies say."""
        self._streak = _Streak()
        self._tries_left.pop(job.id, None)

    def failed(self, job: Job, cause: str, hint: str = "", log: str = "", kind: str = "") -> list[Job]:
        """Note that a job ended without success; the jobs that are given up for it.

        It is tried again, then split, and one sample alone is given up. `kind` is the error's class.
        """
        self._tries_left[job.id] = self._tries_left.get(job.id, self._tries) - 1
        self._streak.add(job)
        if self._streak.failures >= MAX_CONSECUTIVE_FAILURES and self._streak.failed_probes >= MIN_FAILED_PROBES:
            return self._give_up_all(job, cause, hint, log)
        if self._tries_left[job.id] > 0:
            again = self._queue.append if job.id in self._streak.probes else self._queue.appendleft
            again(job)
            return []
        del self._tries_left[job.id]
        if job.stop - job.start == 1 or kind in ERRORS_OF_ALL_SAMPLES:
            self.failures.append(JobFailure(job, cause, hint, log))
            return [job]
        for part in self._split(job, (job.stop - job.start) // 2):
            self._tries_left[part.id] = 1  # its whole has failed before
            self._queue.append(part)  # behind the others, whose success tells a bad sample from a bad model
        return []

    def give_up(self, cause: str, hint: str = "", log: str = "") -> list[Job]:
        """Nothing more can be run; the jobs that were waiting."""
        dropped = list(self._queue)
        self._queue.clear()
        self.failures += [JobFailure(job, cause, hint, log) for job in dropped]
        return dropped

    def _give_up_all(self, job: Job, cause: str, hint: str, log: str) -> list[Job]:
        cause = f"{cause} ({self._streak.failures} failures in a row)"
        self.failures.append(JobFailure(job, cause, hint, log))
        return [job, *self.give_up(cause, hint, log)]

    def _take_probe(self) -> Job:
        """One sample that is most likely healthy, so that its failure speaks against the model.

        Best is one of a benchmark, else of a subset, else of a job that has no failure in this streak; of equals the
        last, which is the cheapest.
        """
        place = min(
            reversed(range(len(self._queue))), key=lambda i: self._streak.doubts(self._queue[i], self._tries_left)
        )
        job = self._queue[place]
        del self._queue[place]
        if job.stop - job.start > 1:
            probe, rest = self._split(job, 1)
            for part in (probe, rest):
                if job.id in self._tries_left:
                    self._tries_left[part.id] = self._tries_left[job.id]
            self._tries_left.pop(job.id, None)
            self._queue.insert(place, rest)
            job = probe
        self._streak.probe(job)
        return job

    def _split(self, job: Job, count: int) -> tuple[Job, Job]:
        """The first `count` samples and the others, under numbers of their own."""
        total, middle = job.stop - job.start, job.start + count
        first = replace(job, id=self._next_id, stop=middle, cost=job.cost * count / total)
        second = replace(job, id=self._next_id + 1, start=middle, cost=job.cost * (total - count) / total)
        self._next_id += 2
        return first, second


class _Streak:
    """Failures without one success in between."""

    def __init__(self) -> None:
        self.failures = self.failed_probes = 0
        self.probes: set[int] = set()
        """Ids of the jobs that were taken as probes."""
        self._benchmarks: set[str] = set()
        self._subsets: set[tuple[str, str]] = set()

    def add(self, job: Job) -> None:
        """One more failure."""
        self.failures += 1
        self.failed_probes += job.id in self.probes
        self._suspect(job)

    def probe(self, job: Job) -> None:
        """A job that is tried now; the next probe should be another one."""
        self.probes.add(job.id)
        self._suspect(job)

    def _suspect(self, job: Job) -> None:
        self._benchmarks.add(job.benchmark)
        self._subsets.add((job.benchmark, job.subset))

    def doubts(self, job: Job, failed_before: Container[int]) -> tuple[bool, ...]:
        """What speaks against a job as a probe, the gravest first; false sorts first."""
        return (
            job.id in failed_before,
            job.benchmark in self._benchmarks,
            (job.benchmark, job.subset) in self._subsets,
        )
