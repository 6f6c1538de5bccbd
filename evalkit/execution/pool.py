"""The life of a run's workers: start them, give them jobs, collect their events, replace those that hang, end them.

The same for every runner. A `Launcher` supplies what differs: where workers are started, how many there is room for,
and how jobs and events travel.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.errors import StoreError
from evalkit.core.records import Job, ModelSpec
from evalkit.execution.dispatch import TRIES, Dispatch
from evalkit.execution.events import Alive, Event, JobDone, JobFailed, JobProgress, LoadFailed, Ready
from evalkit.execution.runner import JobFailure, Outcome, Progress
from evalkit.plan.plan import RunPlan

SILENCE_TIMEOUT = 120.0
"""A worker that does not even send its heartbeat for so many seconds is frozen."""
SLOW_HINT = "if it is only slow, give it more time with --stall-timeout SECONDS"


@dataclass(frozen=True)
class WorkerEnd:
    """Why a worker ended, for the case that it left something undone."""

    cause: str
    hint: str = ""


class WorkerHandle(ABC):
    """A worker as its runner sees it, wherever it runs."""

    silence_timeout = SILENCE_TIMEOUT
    """Longest time without any event, in seconds."""
    startup_timeout = math.inf
    """The same until the first event."""

    def __init__(self, worker_id: str, model: str, log: str = "") -> None:
        """`log`: where its output is."""
        self.id, self.model, self.log = worker_id, model, log
        self.job: Job | None = None
        self.ready = False
        """Whether its model is loaded."""
        self.load_failed = False
        self.has_started = False
        """Whether it has sent any event."""
        self.last_event_at = self.last_progress_at = time.monotonic()
        self.kill_reason = ""
        """Why its runner ended it."""

    @abstractmethod
    def read(self) -> tuple[Sequence[Event], WorkerEnd | None]:
        """The events since the last call, and how the worker ended if it did."""

    @abstractmethod
    def next_job(self, queue: Dispatch) -> None:
        """Begin the worker's next job, or let it end when there is none."""

    @property
    def will_take_jobs(self) -> bool:
        """Whether it is still loading and takes jobs from the queue afterwards."""
        return not self.ready and not self.load_failed

    def unstarted(self) -> list[Job]:
        """Jobs that were assigned and not begun; the worker forgets them."""
        return []

    def note(self, event: Event) -> None:
        """Remember when an event came; all but heartbeats are progress."""
        self.last_event_at, self.has_started = time.monotonic(), True
        if not isinstance(event, Alive):
            self.last_progress_at = self.last_event_at

    def stuck(self, stall_seconds: float) -> str:
        """Why a worker that neither ends nor goes on must be replaced; empty when it need not."""
        now = time.monotonic()
        busy = self.job is not None or not self.ready
        if self.has_started and busy and now - self.last_progress_at > stall_seconds:
            return f"the worker made no progress for {stall_seconds:g} s"
        if self.has_started:
            limit = min(stall_seconds, self.silence_timeout)
        else:
            limit = max(stall_seconds, self.startup_timeout)
        return f"the worker gave no sign of life for {limit:g} s" if now - self.last_event_at > limit else ""


class InteractiveHandle(WorkerHandle):
    """A worker that is given one job after the other."""

    @abstractmethod
    def send_job(self, job: Job) -> None:
        """Let the worker begin a job; a dead worker is noticed by `read`."""

    @abstractmethod
    def shut_down(self) -> None:
        """There are no more jobs: the worker ends by itself."""

    def next_job(self, queue: Dispatch) -> None:
        """See `WorkerHandle`."""
        job = queue.take()
        if job is None:
            self.shut_down()
        else:
            self.job, self.last_progress_at = job, time.monotonic()
            self.send_job(job)


class Launcher(ABC):
    """Where workers run."""

    max_workers: int
    """Workers of all models together."""

    @abstractmethod
    def capacity(self, model: ModelSpec) -> int:
        """How many workers one model may have; it may change during a run."""

    @abstractmethod
    def start(self, model: ModelSpec, count: int, queue: Dispatch) -> Sequence[WorkerHandle]:
        """Start up to `count` workers; fewer where there is no room now."""

    @abstractmethod
    def wait(self, workers: Sequence[Any]) -> None:
        """Return when a worker may have events, or after a moment."""

    @abstractmethod
    def end(self, worker: Any) -> None:
        """End a worker that still runs, and take back what it held."""

    def shares(self, queues: Mapping[str, Dispatch], free: int) -> Mapping[str, int]:
        """How many of the free places each model may take; by default whoever comes first takes all."""
        return dict.fromkeys(queues, free)

    def no_room(self, model: ModelSpec) -> WorkerEnd:
        """Why there is never room for a model whose capacity is 0."""
        return WorkerEnd(f"{model.name} needs {model.gpus} GPUs, which are not here", "--gpus-per-model")

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """All workers are ended: give back what the launcher itself holds."""


class Pool:
    """The workers and the jobs of one run."""

    def __init__(
        self,
        launcher: Launcher,
        plan: RunPlan,
        jobs: Sequence[Job],
        progress: Progress,
        stall_seconds: float = math.inf,
        tries: int = TRIES,
    ) -> None:
        """`stall_seconds`: see `Limits`; `tries`: how often a job is run before it is split or given up."""
        self.launcher, self.plan, self.progress, self.stall_seconds = launcher, plan, progress, stall_seconds
        self.workers: list[WorkerHandle] = []
        first_new = max((job.id for job in jobs), default=0) + 1
        models = [m for m in plan.models if any(job.model == m for job in jobs)]
        self.queues = {
            # numbers of split jobs must differ between models too
            m: Dispatch([job for job in jobs if job.model == m], first_new + (k << 32), self._expected(m), tries)
            for k, m in enumerate(models)
        }
        self._max_copies: dict[str, int] = {}
        """Models of which one more copy could not be loaded -> how many could."""
        self._deaths_in_load: Counter[str] = Counter()
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._seconds: dict[int, float] = {}
        self._reply_errors: list[JobFailure] = []

    def _expected(self, model: str) -> int:
        """How many workers may share a model's jobs."""
        return max(1, min(self.launcher.max_workers, self.launcher.capacity(self.plan.models[model])))

    def run(self) -> Outcome:
        """Run all jobs; StoreError when results cannot be written. No worker is left behind."""
        try:
            while True:
                self._start_workers()
                if not self.workers:
                    return self._outcome()
                self.launcher.wait(self.workers)
                for worker in list(self.workers):
                    self._collect(worker)
                self._replace_stuck()
        finally:
            for worker in self.workers:
                self.launcher.end(worker)
            self.launcher.close()

    def _start_workers(self) -> None:
        """Start workers while jobs wait and there is room."""
        waiting = {model: queue for model, queue in self.queues.items() if queue}
        shares = self.launcher.shares(waiting, self.launcher.max_workers - len(self.workers))
        for model, queue in waiting.items():
            spec = self.plan.models[model]
            capacity = self.launcher.capacity(spec)
            here = [w for w in self.workers if w.model == model]
            if capacity < 1 and not here:
                reason = self.launcher.no_room(spec)
                self.give_up(model, reason.cause, reason.hint)
                continue
            count = min(
                queue.useful_workers() - sum(w.will_take_jobs for w in here),
                min(capacity, self._max_copies.get(model, capacity)) - len(here),
                self.launcher.max_workers - len(self.workers),
                shares[model],
            )
            if count > 0:
                self.workers += self.launcher.start(spec, count, queue)

    def _collect(self, worker: WorkerHandle) -> None:
        """Act on what a worker reports, and on its end."""
        events, end = worker.read()
        for event in events:
            worker.note(event)
            self.handle_event(worker, event)
        if end:
            self._remove(worker, end)

    def _replace_stuck(self) -> None:
        """End workers that neither end nor go on; their jobs are tried again elsewhere."""
        for worker in list(self.workers):
            worker.kill_reason = worker.stuck(self.stall_seconds)
            if worker.kill_reason:
                self._remove(worker, WorkerEnd(worker.kill_reason, SLOW_HINT))

    def _remove(self, worker: WorkerHandle, end: WorkerEnd) -> None:
        """Take a worker out that ended, or that must; what it left undone is for others."""
        self.workers.remove(worker)
        self.launcher.end(worker)
        job = worker.job
        if job:
            self._job_failed(worker, job, end.cause, end.hint)
        self._put_back(worker)
        if not job and not worker.ready and not worker.load_failed and self.queues[worker.model]:
            self._died_in_load(worker, end)

    def _died_in_load(self, worker: WorkerHandle, end: WorkerEnd) -> None:
        self._deaths_in_load[worker.model] += 1
        if self._deaths_in_load[worker.model] >= TRIES and not self._limit_copies(worker):
            self.give_up(worker.model, f"while loading the model: {end.cause}", end.hint, worker.log)

    def handle_event(self, worker: WorkerHandle, event: Event) -> None:
        """Act on one event; StoreError when results cannot be written."""
        queue, job = self.queues[worker.model], worker.job
        if isinstance(event, Ready):
            worker.ready = True
            self._deaths_in_load.pop(worker.model, None)
            self._facts[worker.model] = event.facts
            if job is None:  # else it was restarted in the middle, and runs the same jobs again
                worker.next_job(queue)
        elif isinstance(event, LoadFailed):
            worker.load_failed = True
            self._put_back(worker)
            if not self._limit_copies(worker):
                self.give_up(worker.model, event.error, event.hint, worker.log)
        elif isinstance(event, (JobProgress, JobDone, JobFailed)) and job is not None and event.job == job.id:
            self._job_event(worker, job, event)

    def _job_event(self, worker: WorkerHandle, job: Job, event: JobProgress | JobDone | JobFailed) -> None:
        if isinstance(event, JobProgress):
            self.progress(job, event.done / max(1, event.total))
            return
        if isinstance(event, JobDone):
            self._job_done(worker, job, event)
        elif event.kind == StoreError.__name__:
            raise StoreError(event.error, event.hint)
        else:
            self._job_failed(worker, job, event.error, event.hint, event.kind)
            if event.worker_ends:
                return
        worker.next_job(self.queues[worker.model])

    def give_up(self, model: str, cause: str, hint: str, log: str = "") -> None:
        """None of a model's waiting jobs can be run."""
        self._drop(self.queues[model].give_up(cause, hint, log))

    def _limit_copies(self, worker: WorkerHandle) -> bool:
        """Load a model no more often than it fits; false when it is loaded nowhere."""
        loaded = sum(w.model == worker.model and w.ready for w in self.workers if w is not worker)
        if loaded:
            self._max_copies[worker.model] = loaded
        return loaded > 0

    def _put_back(self, worker: WorkerHandle) -> None:
        """What a worker did not begin is for others."""
        for job in reversed(worker.unstarted()):
            self.queues[worker.model].put_back(job)

    def _job_done(self, worker: WorkerHandle, job: Job, event: JobDone) -> None:
        self._seconds[job.id] = event.seconds
        self.progress(job, 1.0)
        self.queues[worker.model].done(job)
        if event.peak_memory is not None:
            facts = self._facts.get(worker.model, {})
            peak = max(event.peak_memory, facts.get("peak_memory") or 0)
            self._facts[worker.model] = {**facts, "peak_memory": peak}
        if event.errors:
            cause = f"{event.errors} of {event.asked} requests got no answer: {event.first_error}"
            self._reply_errors.append(JobFailure(job, cause, log=worker.log))
        worker.job = None

    def _job_failed(self, worker: WorkerHandle, job: Job, cause: str, hint: str, kind: str = "") -> None:
        """Have the worker's job tried again, in parts, or given up."""
        worker.job = None
        self.progress(job, 0.0)
        self._drop(self.queues[job.model].failed(job, cause, hint, worker.log, kind))

    def _drop(self, jobs: Sequence[Job]) -> None:
        """Nothing more is to be waited for in these jobs."""
        for job in jobs:
            self.progress(job, 1.0)

    def _outcome(self) -> Outcome:
        failures = [f for queue in self.queues.values() for f in queue.failures]
        return Outcome((*self._reply_errors, *failures), self._facts, self._seconds)
