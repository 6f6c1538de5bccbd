"""A worker: one process that loads one model once and runs the jobs it is handed.

The same worker serves every runner. It is started as
`python -m evalkit.execution.worker RUN_FOLDER MODEL WORKER_ID EVENT_FD PARENT_PID`, gets jobs as JSON lines on
standard input, and tells what happens as JSON lines on the event pipe.
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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalkit.core.errors import EvalkitError, StoreError
from evalkit.core.records import Job, Request
from evalkit.engines.base import Engine
from evalkit.engines.catalog import create_engine
from evalkit.execution.pending import index_subset
from evalkit.plan.manifest import from_manifest
from evalkit.plan.plan import Pair, RunPlan
from evalkit.results.store import RunStore

Event = Mapping[str, Any]
Send = Callable[[Event], None]
PROGRESS_SECONDS = 0.25
HEARTBEAT_SECONDS = 1.0
PR_SET_PDEATHSIG = 1


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

    def run_job(self, job: Job, send: Send) -> None:
        """Answer the job's open requests and append the replies; tells progress and the end."""
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
                    send({"event": "progress", "job": job.id, "done": count, "of": len(pending)})
        finally:
            writer.close()
        seconds = round(time.monotonic() - started, 3)
        send(
            {
                "event": "done",
                "job": job.id,
                "asked": count,
                "seconds": seconds,
                "errors": len(failed),
                "first_error": failed[0] if failed else "",
            }
        )

    def _pending(self, job: Job) -> dict[str, Request]:
        """key -> request of everything in the job that has no answer in the store; all keys are kept in the index."""
        pair = Pair(self.model, job.benchmark)
        samples = self.plan.task(pair).samples(job.subset)[job.start : job.stop]
        requests = index_subset(self.plan, pair, self.store, job.subset, samples, self.id)
        answered = {k for k, r in self.store.replies(job.model, job.benchmark, job.subset).items() if not r.error}
        return {r.key: r for asked in requests.values() for r in asked if r.key not in answered}


def failure(error: BaseException) -> dict[str, str]:
    """An error as an event's fields; the traceback goes to the log."""
    traceback.print_exception(error)
    if isinstance(error, EvalkitError):
        return {"kind": type(error).__name__, "error": error.message, "hint": error.hint}
    if isinstance(error, MemoryError):
        return {
            "kind": "MemoryError",
            "error": "out of memory",
            "hint": "use a smaller model or --set model.batch_tokens=N",
        }
    return {"kind": type(error).__name__, "error": f"{type(error).__name__}: {error}", "hint": "see the worker's log"}


def run_guarded(worker: Worker, job: Job, send: Send) -> bool:
    """Run one job; a failure becomes an event. False when the worker cannot go on."""
    try:
        worker.run_job(job, send)
        return True
    except Exception as error:  # reported with its traceback; the runner decides what follows
        send({"event": "failed", "job": job.id, **failure(error)})
        return not isinstance(error, (StoreError, MemoryError))


def main(argv: list[str]) -> int:
    """The worker process."""
    folder, model, worker_id, fd, parent = argv
    die_with(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    with os.fdopen(int(fd), "w", buffering=1, encoding="utf-8") as pipe:
        turn = threading.Lock()

        def send(event: Event) -> None:
            with turn, contextlib.suppress(BrokenPipeError, ValueError):  # the parent, or the pipe, is gone
                pipe.write(json.dumps(event) + "\n")
                pipe.flush()

        start_heartbeat(send)

        return serve(lambda: RunStore(Path(folder)), model, worker_id, map(_job, sys.stdin), send)


def serve(open_store: Callable[[], RunStore], model: str, worker_id: str, jobs: Iterable[Job], send: Send) -> int:
    """Load the model, run the jobs as they come, tell of both; 1 when the worker cannot go on.

    The same for every runner: what differs is where jobs come from and where events go.
    """
    try:
        store = open_store()
        plan = from_manifest(store.manifest())
        started = time.monotonic()
        engine = create_engine(plan.models[model])
    except Exception as error:  # reported with its traceback
        send({"event": "load_failed", **failure(error)})
        return 1
    send({"event": "ready", "seconds": round(time.monotonic() - started, 3), "facts": dict(engine.describe())})
    worker = Worker(store, plan, model, worker_id, engine)
    for job in jobs:
        if not run_guarded(worker, job, send):
            return 1
    engine.close()
    return 0


def _job(line: str) -> Job:
    return Job(**json.loads(line))


def start_heartbeat(send: Send, seconds: float = HEARTBEAT_SECONDS) -> None:
    """A sign of life from now on, also while the model loads or a long batch runs."""

    def beat() -> None:
        while True:
            send({"event": "alive"})
            time.sleep(seconds)

    threading.Thread(target=beat, daemon=True).start()


def die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, so that a killed run leaves no orphan.

    Linux only; elsewhere the end of standard input ends the worker after its job.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)


def job_line(job: Job) -> str:
    """A job as the worker reads it."""
    return json.dumps(asdict(job)) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
