"""Runs jobs on this machine: one worker process a device slot, each with one model load."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import IO, Any

from evalkit.errors import StoreError
from evalkit.manifest import RunPlan
from evalkit.runners.base import JobFailure, Outcome, Progress
from evalkit.runners.devices import cuda_devices, uses_cuda, worker_environment
from evalkit.runners.events import EventReader
from evalkit.store import RunStore
from evalkit.types import Job
from evalkit.worker import job_line

TRIES = 2
"""A job whose worker dies, or that fails, is tried once more in a fresh worker."""
POLL_SECONDS = 0.5
STOP_SECONDS = 5.0


class WorkerProcess:
    """A running worker, as its runner sees it."""

    def __init__(self, store: RunStore, model: str, worker_id: str, devices: list[str] | None, workers: int) -> None:
        self.id = worker_id
        self.model = model
        self.devices = devices
        self.ready = False
        self.job: Job | None = None
        self.log = store.log_path(worker_id)
        read_end, write_end = os.pipe()
        command = [
            sys.executable,
            "-m",
            "evalkit.worker",
            str(store.folder),
            model,
            worker_id,
            str(write_end),
            str(os.getpid()),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                env=worker_environment(devices, workers),
                start_new_session=True,
            )
        os.close(write_end)
        self.events = EventReader(read_end)

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe that jobs are written to."""
        assert self.process.stdin is not None
        return self.process.stdin

    def hand(self, job: Job) -> None:
        """Give the worker its next job; a dead worker is found out by its event pipe."""
        self.job = job
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(job_line(job).encode())
            self.stdin.flush()

    def dismiss(self) -> None:
        """No more jobs: the worker ends by itself."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def kill(self) -> None:
        """End the worker and everything it started."""
        self.dismiss()
        for sig in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sig)
            try:
                self.process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        self.events.close()


def cause_of_death(returncode: int | None) -> tuple[str, str]:
    """(what happened, what to do) for a worker that ended without a word."""
    if returncode == -signal.SIGKILL:
        return (
            "the worker was killed (SIGKILL), most likely by the system for want of memory",
            "use fewer workers, --set model.batch_tokens=1024, a smaller dtype or a machine with more memory",
        )
    if returncode is not None and returncode < 0:
        name = signal.Signals(-returncode).name
        return f"the worker crashed ({name})", "see its log"
    return f"the worker ended with status {returncode}", "see its log"


class LocalRunner:
    """The default runner."""

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers = max_workers

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        session = _Session(store, plan, jobs, progress, self.max_workers)
        try:
            return session.run()
        finally:
            session.stop()


class _Session:
    """The state of one run."""

    def __init__(
        self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress, max_workers: int | None
    ) -> None:
        self.store, self.plan, self.progress = store, plan, progress
        self.queues = {m: deque(j for j in jobs if j.model == m) for m in plan.models}
        self.cuda = cuda_devices()
        on_cuda = any(uses_cuda(plan.models[m], self.cuda) for m, q in self.queues.items() if q)
        self.limit = max_workers or (len(self.cuda) if on_cuda else 1)
        self.free = list(self.cuda)
        self.workers: list[WorkerProcess] = []
        self.attempts: Counter[int] = Counter()
        self.load_deaths: Counter[str] = Counter()
        self.failures: list[JobFailure] = []
        self.facts: dict[str, Mapping[str, Any]] = {}
        self.seconds: dict[int, float] = {}
        self.started = 0
        self.selector = selectors.DefaultSelector()

    def run(self) -> Outcome:
        while True:
            self._launch()
            if not self.workers:
                return Outcome(tuple(self.failures), self.facts, self.seconds)
            for key, _ in self.selector.select(POLL_SECONDS):
                worker: WorkerProcess = key.data
                events, ended = worker.events.read()
                for event in events:
                    self._handle(worker, event)
                if ended:
                    self._ended(worker)

    def stop(self) -> None:
        """Leave no worker behind."""
        for worker in self.workers:
            worker.kill()
        self.workers = []
        self.selector.close()

    def _launch(self) -> None:
        """Start workers while there are jobs without one and slots for them."""
        for model, queue in self.queues.items():
            spec = self.plan.models[model]
            on_cuda = uses_cuda(spec, self.cuda)
            while queue and len(self.workers) < self.limit and self._loading(model) < len(queue):
                if on_cuda and len(self.free) < spec.gpus:
                    if spec.gpus > len(self.cuda):
                        self._give_up(
                            model, f"{model} needs {spec.gpus} GPUs, {len(self.cuda)} are here", "--gpus-per-model"
                        )
                    break
                devices = [self.free.pop(0) for _ in range(spec.gpus)] if on_cuda else None
                self.started += 1
                worker = WorkerProcess(self.store, model, f"w{self.started}", devices, self.limit)
                self.workers.append(worker)
                self.selector.register(worker.events.fd, selectors.EVENT_READ, worker)

    def _loading(self, model: str) -> int:
        return sum(w.model == model and not w.ready for w in self.workers)

    def _handle(self, worker: WorkerProcess, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready":
            worker.ready = True
            self.facts[worker.model] = event["facts"]
            self._next(worker)
        elif kind == "load_failed":
            self._load_failed(worker, event["error"], event["hint"])
        elif kind == "progress" and worker.job:
            self.progress(worker.job, event["done"] / max(1, event["of"]))
        elif kind == "done" and worker.job:
            self.seconds[worker.job.id] = event["seconds"]
            self._finished(worker, event)
        elif kind == "failed" and worker.job:
            if event["kind"] == StoreError.__name__:
                raise StoreError(event["error"], event["hint"])
            self._failed(worker, event["error"], event["hint"])
            if event["kind"] != MemoryError.__name__:  # such a worker ends itself
                self._next(worker)

    def _finished(self, worker: WorkerProcess, event: Mapping[str, Any]) -> None:
        job = worker.job
        assert job is not None
        self.progress(job, 1.0)
        if event["errors"]:
            cause = f"{event['errors']} of {event['asked']} requests got no answer: {event['first_error']}"
            self.failures.append(JobFailure(job, cause, log=str(worker.log)))
        worker.job = None
        self._next(worker)

    def _next(self, worker: WorkerProcess) -> None:
        queue = self.queues[worker.model]
        if queue:
            worker.hand(queue.popleft())
        else:
            worker.dismiss()

    def _failed(self, worker: WorkerProcess, cause: str, hint: str) -> None:
        """Try the worker's job once more, or give it up."""
        job, worker.job = worker.job, None
        assert job is not None
        self.attempts[job.id] += 1
        if self.attempts[job.id] < TRIES:
            self.queues[job.model].appendleft(job)
        else:
            self.progress(job, 1.0)
            self.failures.append(JobFailure(job, cause, hint, str(worker.log)))

    def _load_failed(self, worker: WorkerProcess, cause: str, hint: str) -> None:
        """The model cannot be loaded; where another worker has it loaded, that one goes on alone."""
        others = [w for w in self.workers if w is not worker and w.model == worker.model and w.ready]
        if others:
            self.limit = max(1, self.limit - 1)
        else:
            self._give_up(worker.model, cause, hint, str(worker.log))

    def _give_up(self, model: str, cause: str, hint: str, log: str = "") -> None:
        while self.queues[model]:
            job = self.queues[model].popleft()
            self.progress(job, 1.0)
            self.failures.append(JobFailure(job, cause, hint, log))

    def _ended(self, worker: WorkerProcess) -> None:
        """A worker's pipe is closed: it went home, or it died."""
        self.selector.unregister(worker.events.fd)
        self.workers.remove(worker)
        worker.kill()
        self.free = [*(worker.devices or []), *self.free] if worker.devices else self.free
        cause, hint = cause_of_death(worker.process.returncode)
        if worker.job:
            self._failed(worker, cause, hint)
        elif not worker.ready and self.queues[worker.model]:
            self.load_deaths[worker.model] += 1
            if self.load_deaths[worker.model] >= TRIES:
                self._give_up(worker.model, f"while loading the model: {cause}", hint, str(worker.log))
