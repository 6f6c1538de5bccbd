"""A worker: loads one model once and runs the jobs that it is given.

The same worker serves every runner. `serve` is all of it: jobs come in, events come out. As a local process it is
started as `python -m evalkit.execution.worker RUN_FOLDER MODEL WORKER_ID EVENT_FD PARENT_PID`, reads jobs as JSON lines
from standard input, and writes events as JSON lines into the event pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from evalkit.core.digest import plain
from evalkit.core.errors import DeviceError, EvalkitError, StoreError
from evalkit.core.records import Job, Request
from evalkit.engines.base import Engine
from evalkit.engines.catalog import create_engine
from evalkit.execution.events import Alive, Event, JobDone, JobFailed, JobProgress, LoadFailed, Ready, encode
from evalkit.execution.pending import index_subset
from evalkit.plan.manifest import from_manifest
from evalkit.plan.plan import Pair, RunPlan
from evalkit.results.store import RunStore

PROGRESS_SECONDS = 0.25
HEARTBEAT_SECONDS = 1.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Worker:
    """A loaded model and the plan that it serves."""

    def __init__(
        self,
        store: RunStore,
        plan: RunPlan,
        model: str,
        worker_id: str,
        engine: Engine,
    ) -> None:
        self.store = store
        self.plan = plan
        self.model = model
        self.id = worker_id
        self.engine = engine

    def run_job(self, job: Job) -> Iterator[Event]:
        """Answer the job's open requests and append the replies; yields its progress and its end."""
        pending = self._pending(job)
        failed: list[str] = []
        started = last = time.monotonic()
        count = 0
        writer = self.store.writer(job.model, job.benchmark, job.subset, self.id)
        try:
            for reply in self.engine.run(list(pending.values())):
                writer.append(pending[reply.key], reply)
                failed += [reply.error] if reply.error else []
                count += 1
                if time.monotonic() - last > PROGRESS_SECONDS:
                    last = time.monotonic()
                    yield JobProgress(job.id, count, len(pending))
        finally:
            writer.close()
        seconds = round(time.monotonic() - started, 3)
        peak = self.engine.describe().get("peak_memory")
        yield JobDone(job.id, count, seconds, len(failed), failed[0] if failed else "", peak)

    def _pending(self, job: Job) -> dict[str, Request]:
        """key -> request of everything in the job that has no answer in the store; all keys are kept in the index."""
        pair = Pair(self.model, job.benchmark)
        samples = self.plan.task(pair).samples(job.subset)[job.start : job.stop]
        requests = index_subset(self.plan, pair, self.store, job.subset, samples, self.id)
        answered = {k for k, r in self.store.replies(job.model, job.benchmark, job.subset).items() if not r.error}
        return {r.key: r for asked in requests.values() for r in asked if r.key not in answered}


@dataclass(frozen=True)
class ErrorReport:
    """An error as events carry it."""

    kind: str
    error: str
    hint: str


def report_error(error: BaseException) -> ErrorReport:
    """What an event says of an error; the traceback goes to the worker's log."""
    traceback.print_exception(error)
    if isinstance(error, EvalkitError):
        return ErrorReport(type(error).__name__, error.message, error.hint)
    if isinstance(error, MemoryError):
        return ErrorReport(MemoryError.__name__, "out of memory", "use a smaller model or --set model.batch_tokens=N")
    return ErrorReport(type(error).__name__, f"{type(error).__name__}: {error}", "see the worker's log")


def serve(load: Callable[[], Worker], jobs: Iterable[Job]) -> Generator[Event]:
    """Load the model and run the jobs as they come; yields everything that the runner must know.

    The same for every runner: what differs is where jobs come from and where events go. It ends after the last job, or
    before where the worker cannot go on: when its model cannot be loaded, memory is exhausted, the device failed, or
    results cannot be written.
    """
    try:
        started = time.monotonic()
        worker = load()
        facts = plain(worker.engine.describe())
    except Exception as error:  # reported with its traceback
        yield LoadFailed(**asdict(report_error(error)))
        return
    try:
        yield Ready(round(time.monotonic() - started, 3), facts)
        for job in jobs:
            failure = None
            try:
                yield from worker.run_job(job)
            except Exception as error:  # reported with its traceback; the runner decides what follows
                fatal = isinstance(error, (StoreError, MemoryError, DeviceError))
                failure = JobFailed(job.id, **asdict(report_error(error)), worker_ends=fatal)
            if failure:  # outside the handler, which would hold the error's frames and their memory
                yield failure
                if failure.worker_ends:
                    return
    finally:
        close_engine(worker.engine)


def close_engine(engine: Engine) -> None:
    """Close an engine that is not used again; what goes wrong then is for the log alone."""
    try:
        engine.close()
    except Exception as error:  # printed; the replies are written
        traceback.print_exception(error)


def loader(open_store: Callable[[], RunStore], model: str, worker_id: str) -> Callable[[], Worker]:
    """Loads the model that the run's manifest describes."""

    def load() -> Worker:
        store = open_store()
        plan = from_manifest(store.manifest())
        return Worker(store, plan, model, worker_id, create_engine(plan.models[model]))

    return load


def main(argv: list[str]) -> int:
    """The worker process; 1 when it could not go on."""
    folder, model, worker_id, fd, parent = argv
    die_with(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    with os.fdopen(int(fd), "w", buffering=1, encoding="utf-8") as pipe:
        lock = threading.Lock()

        def send(event: Event) -> None:
            with lock, contextlib.suppress(BrokenPipeError, ValueError):  # the parent, or the pipe, is gone
                pipe.write(encode(event))
                pipe.flush()

        start_heartbeat(send)
        return forward(serve(loader(lambda: RunStore(Path(folder)), model, worker_id), map(_job, sys.stdin)), send)


def forward(events: Iterable[Event], send: Callable[[Event], None]) -> int:
    """Send the events of `serve` as they come; 1 when the last one says that the worker could not go on."""
    code = 0
    for event in events:
        send(event)
        code = int(isinstance(event, LoadFailed) or (isinstance(event, JobFailed) and event.worker_ends))
    return code


def _job(line: str) -> Job:
    return Job(**json.loads(line))


def start_heartbeat(send: Callable[[Event], None], seconds: float = HEARTBEAT_SECONDS) -> None:
    """A sign of life from now on, also while the model loads or a long batch runs."""

    def beat() -> None:
        while True:
            send(Alive())
            time.sleep(seconds)

    threading.Thread(target=beat, daemon=True).start()


def die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, so that a killed run leaves no orphan.

    Linux only; elsewhere the end of standard input ends the worker after its job. The runner calls it between fork and
    exec, which it survives: a parent may die, or the worker be stopped, before the first line of this module is run.
    """
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


def job_line(job: Job) -> str:
    """A job as the worker reads it."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
