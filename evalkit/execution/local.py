"""Runs jobs on this machine: one worker process a device set, each with one model load."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import IO

from evalkit.core.records import Job, ModelSpec
from evalkit.execution.devices import cuda_devices, uses_cuda, worker_environment
from evalkit.execution.dispatch import Dispatch
from evalkit.execution.events import Event, EventReader
from evalkit.execution.pool import InteractiveHandle, Launcher, Pool, WorkerEnd
from evalkit.execution.runner import Limits, Outcome, Progress
from evalkit.execution.worker import die_with, job_line
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore

POLL_SECONDS = 0.5
STOP_SECONDS = 5.0
STARTUP_TIMEOUT = 120.0
"""Until its first event a worker may take longer: the interpreter starts, a file system is slow."""


class LocalWorker(InteractiveHandle):
    """A worker process."""

    startup_timeout = STARTUP_TIMEOUT

    def __init__(self, store: RunStore, model: str, worker_id: str, devices: list[str] | None, workers: int) -> None:
        """`workers`: how many share this machine's cores."""
        path = store.log_path(worker_id)
        super().__init__(worker_id, model, str(path))
        self.devices = devices
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
                preexec_fn=partial(die_with, os.getpid()),
            )
        os.close(write_end)
        self.pipe = EventReader(read_end)

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe that jobs are written to."""
        assert self.process.stdin is not None
        return self.process.stdin

    def send_job(self, job: Job) -> None:
        """See `InteractiveHandle`."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(job_line(job).encode())
            self.stdin.flush()

    def shut_down(self) -> None:
        """See `InteractiveHandle`."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()

    def read(self) -> tuple[Sequence[Event], WorkerEnd | None]:
        """See `WorkerHandle`."""
        events, closed = self.pipe.read()
        if not closed:
            return events, None
        self.kill()
        return events, cause_of_death(self.process.returncode)

    def kill(self) -> None:
        """End the worker and everything it started, unless that is done; one that hangs without asking it."""
        if self.process.returncode is not None:
            return
        self.shut_down()
        for sig in (signal.SIGKILL,) if self.kill_reason else (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sig)
            try:
                self.process.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue


def cause_of_death(returncode: int | None) -> WorkerEnd:
    """What happened to a worker that ended without saying why, and what to do."""
    if returncode == -signal.SIGKILL:
        return WorkerEnd(
            "the worker was killed (SIGKILL), most likely by the system because it ran out of memory",
            "use fewer workers, --set model.batch_tokens=1024, a smaller dtype or a machine with more memory",
        )
    if returncode is not None and returncode < 0:
        return WorkerEnd(f"the worker crashed ({signal.Signals(-returncode).name})", "see its log")
    return WorkerEnd(f"the worker ended with status {returncode}", "see its log")


class LocalLauncher(Launcher):
    """Starts worker processes here, each with its own set of the CUDA devices where its model takes any."""

    def __init__(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], limits: Limits) -> None:
        self.store = store
        self.cuda = cuda_devices()
        on_cuda = any(uses_cuda(plan.models[job.model], self.cuda) for job in jobs)
        self.max_workers = limits.max_workers or (len(self.cuda) if on_cuda else 1)
        self._free = list(self.cuda)
        self._started = 0
        self._selector = selectors.DefaultSelector()

    def capacity(self, model: ModelSpec) -> int:
        """See `Launcher`."""
        return len(self.cuda) // model.gpus if uses_cuda(model, self.cuda) else self.max_workers

    def no_room(self, model: ModelSpec) -> WorkerEnd:
        """See `Launcher`."""
        return WorkerEnd(f"{model.name} needs {model.gpus} GPUs, {len(self.cuda)} are here", "--gpus-per-model")

    def start(self, model: ModelSpec, count: int, queue: Dispatch) -> list[LocalWorker]:
        """See `Launcher`."""
        on_cuda = uses_cuda(model, self.cuda)
        workers: list[LocalWorker] = []
        while len(workers) < count and not (on_cuda and len(self._free) < model.gpus):
            devices = [self._free.pop(0) for _ in range(model.gpus)] if on_cuda else None
            self._started += 1
            worker = LocalWorker(self.store, model.name, f"w{self._started}", devices, self.max_workers)
            self._selector.register(worker.pipe.fd, selectors.EVENT_READ)
            workers.append(worker)
        return workers

    def wait(self, workers: Sequence[LocalWorker]) -> None:
        """See `Launcher`."""
        self._selector.select(POLL_SECONDS)

    def end(self, worker: LocalWorker) -> None:
        """See `Launcher`."""
        worker.kill()
        self._selector.unregister(worker.pipe.fd)
        worker.pipe.close()
        self._free = [*(worker.devices or []), *self._free]

    def close(self) -> None:
        """See `Launcher`."""
        self._selector.close()


class LocalRunner:
    """The default runner."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        launcher = LocalLauncher(store, plan, jobs, self.limits)
        return Pool(launcher, plan, jobs, progress, self.limits.stall_seconds).run()
