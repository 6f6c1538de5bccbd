"""Runs jobs on this machine: one worker process a device slot, each with one model load."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from evalkit.core.records import Job
from evalkit.execution.devices import cuda_devices, uses_cuda, worker_environment
from evalkit.execution.events import EventReader
from evalkit.execution.pool import Crew
from evalkit.execution.runner import Limits, Outcome, Progress
from evalkit.execution.worker import job_line
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore

POLL_SECONDS = 0.5
STOP_SECONDS = 5.0
SILENT_SECONDS = 120.0
"""A worker that does not even send its heartbeat is frozen."""
BIRTH_SECONDS = 120.0
"""Until its first word a worker may take longer: the interpreter starts, a file system is slow."""


class WorkerProcess:
    """A running worker, as its runner sees it."""

    def __init__(self, store: RunStore, model: str, worker_id: str, devices: list[str] | None, workers: int) -> None:
        self.id = worker_id
        self.model = model
        self.devices = devices
        self.ready = False
        self.job: Job | None = None
        self.heard = self.moved = time.monotonic()
        """When the last event came, and the last one that tells of progress."""
        self.spoke = False
        self.killed_for = ""
        """Why its runner ended it."""
        path = store.log_path(worker_id)
        self.log = str(path)
        read_end, write_end = os.pipe()
        command = [
            sys.executable,
            "-m",
            "evalkit.execution.worker",
            str(store.folder),
            model,
            worker_id,
            str(write_end),
            str(os.getpid()),
        ]
        with path.open("ab") as log:
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
        self.job, self.moved = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(job_line(job).encode())
            self.stdin.flush()

    def hear(self, kind: str) -> None:
        """Note an event; all but heartbeats tell of progress."""
        self.heard, self.spoke = time.monotonic(), True
        if kind != "alive":
            self.moved = self.heard

    def stuck(self, stall: float) -> str:
        """What is wrong with a worker that neither ends nor goes on; empty when nothing is."""
        now = time.monotonic()
        if self.spoke and (self.job or not self.ready) and now - self.moved > stall:
            return f"the worker made no progress for {stall:g} s"
        silent = min(stall, SILENT_SECONDS) if self.spoke else max(stall, BIRTH_SECONDS)
        return f"the worker gave no sign of life for {silent:g} s" if now - self.heard > silent else ""

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

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        session = _Session(store, plan, jobs, progress, self.limits)
        try:
            return session.run()
        finally:
            session.stop()


class _Session:
    """The workers of one run."""

    def __init__(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress, limits: Limits) -> None:
        self.store, self.plan = store, plan
        self.cuda = cuda_devices()
        on_cuda = any(uses_cuda(plan.models[job.model], self.cuda) for job in jobs)
        self.limit = limits.max_workers or (len(self.cuda) if on_cuda else 1)
        self.stall = limits.stall_seconds
        self.crew = Crew(plan, jobs, progress, self._workers_for)
        self.free = list(self.cuda)
        self.workers: list[WorkerProcess] = []
        self.started = 0
        self.selector = selectors.DefaultSelector()

    def _workers_for(self, model: str) -> int:
        """How many workers may share a model's jobs."""
        spec = self.plan.models[model]
        return max(1, min(self.limit, len(self.cuda) // spec.gpus) if uses_cuda(spec, self.cuda) else self.limit)

    def run(self) -> Outcome:
        while True:
            self._launch()
            if not self.workers:
                return self.crew.outcome()
            for key, _ in self.selector.select(POLL_SECONDS):
                worker: WorkerProcess = key.data
                events, ended = worker.events.read()
                for event in events:
                    worker.hear(event["event"])
                    if not self.crew.hear(worker, event, self.workers):
                        self.limit = max(1, self.limit - 1)  # no room for one more copy
                if ended:
                    self._ended(worker)
            self._replace_stuck()

    def stop(self) -> None:
        """Leave no worker behind."""
        for worker in self.workers:
            worker.kill()
        self.workers = []
        self.selector.close()

    def _launch(self) -> None:
        """Start workers while there are jobs without one and slots for them."""
        for model, queue in self.crew.queues.items():
            spec = self.plan.models[model]
            on_cuda = uses_cuda(spec, self.cuda)
            while queue and len(self.workers) < self.limit and self._loading(model) < queue.useful_workers():
                if on_cuda and len(self.free) < spec.gpus:
                    if spec.gpus > len(self.cuda):
                        said = f"{model} needs {spec.gpus} GPUs, {len(self.cuda)} are here"
                        self.crew.give_up(model, said, "--gpus-per-model")
                    break
                devices = [self.free.pop(0) for _ in range(spec.gpus)] if on_cuda else None
                self.started += 1
                worker = WorkerProcess(self.store, model, f"w{self.started}", devices, self.limit)
                self.workers.append(worker)
                self.selector.register(worker.events.fd, selectors.EVENT_READ, worker)

    def _loading(self, model: str) -> int:
        return sum(w.model == model and not w.ready for w in self.workers)

    def _replace_stuck(self) -> None:
        """End workers that neither end nor go on; their jobs are tried again elsewhere."""
        for worker in list(self.workers):
            worker.killed_for = worker.stuck(self.stall)
            if worker.killed_for:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, signal.SIGKILL)
                self._ended(worker)

    def _ended(self, worker: WorkerProcess) -> None:
        """A worker's pipe is closed, or it was ended: it went home, or it died."""
        self.selector.unregister(worker.events.fd)
        self.workers.remove(worker)
        worker.kill()
        self.free = [*(worker.devices or []), *self.free]
        cause, hint = cause_of_death(worker.process.returncode)
        if worker.killed_for:
            cause, hint = worker.killed_for, "if it only is slow, give more time with --stall-timeout SECONDS"
        self.crew.lost(worker, cause, hint)
