"""Runs jobs as a Slurm array through submitit: every element loads one model and runs a slice of the plan.

Slurm schedules, requeues what is preempted, and enforces limits; an element that comes back goes on
from the store. Elements write their events into files of the run's folder, which must be shared.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.records import Job, ModelSpec
from evalkit.execution.devices import takes_devices
from evalkit.execution.dispatch import Dispatch
from evalkit.execution.events import Ended, Event, decode, encode
from evalkit.execution.pool import Launcher, Pool, WorkerEnd, WorkerHandle
from evalkit.execution.runner import Limits, Outcome, Progress
from evalkit.execution.worker import forward, loader, serve, start_heartbeat
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore

HINT = "pip install 'evalkit[slurm]'"
DEFAULT_WORKERS = 16
"""Elements of an array where the command names no number."""
POLL_SECONDS = 1.0
SQUEUE_SECONDS = 5.0
"""How often squeue is asked whether elements still exist."""
GRACE_SECONDS = 15.0
"""An element that squeue does not show any more may still have events on their way through the file system."""
HEARTBEAT_SECONDS = 10.0
MAX_REQUEUES = 100
"""After a time limit; each finds something done."""


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of Slurm."""

    partition: str = ""
    qos: str = ""
    minutes: int = 24 * 60
    """Time limit of an element; one that reaches it is requeued and goes on."""


class Slice:
    """What one array element runs; submitit calls it again after a preemption or a timeout."""

    def __init__(self, folder: str, model: str, worker_id: str, jobs: Sequence[Job]) -> None:
        self.folder, self.model, self.worker_id, self.jobs = folder, model, worker_id, tuple(jobs)

    def __call__(self) -> int:
        """Run the jobs; events go to a file. 1 when the worker could not go on."""
        store = RunStore(Path(self.folder))
        lock = threading.Lock()
        print(f"devices: {os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}", flush=True)
        with store.events_path(self.worker_id).open("a", encoding="utf-8") as file:

            def send(event: Event) -> None:
                with lock, contextlib.suppress(ValueError):  # the file is closed
                    file.write(encode(event))
                    file.flush()

            file.write("\n")  # ends the line that a kill tore
            start_heartbeat(send, HEARTBEAT_SECONDS)
            code = forward(serve(loader(lambda: store, self.model, self.worker_id), self.jobs), send)
            send(Ended())
        return code

    def checkpoint(self, *_args: Any) -> Any:
        """Asked for by submitit before a requeue: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmWorker(WorkerHandle):
    """An array element. It has its jobs from the start and runs them in order; after a requeue, from the first one."""

    silence_timeout = math.inf
    startup_timeout = 0.0

    def __init__(self, slurm: Any, worker_id: str, model: str, jobs: Sequence[Job], events: Path) -> None:
        """`slurm`: submitit's job; `events`: the file that the element writes."""
        super().__init__(worker_id, model, str(slurm.paths.stderr))
        self.slurm, self.has_ended = slurm, False
        self._waiting = deque(jobs)
        self._path, self._offset = events, 0
        self._is_gone = False

    def next_job(self, queue: Dispatch) -> None:
        """See `WorkerHandle`."""
        self.job = self._waiting.popleft() if self._waiting else None
        self.last_progress_at = time.monotonic()

    @property
    def will_take_jobs(self) -> bool:
        """See `WorkerHandle`: it takes none but its own."""
        return False

    def unstarted(self) -> list[Job]:
        """See `WorkerHandle`."""
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def read(self) -> tuple[Sequence[Event], WorkerEnd | None]:
        """See `WorkerHandle`."""
        events = self._new_events()
        self.has_ended = any(isinstance(event, Ended) for event in events)
        if self.has_ended:
            return events, WorkerEnd("the worker ended early", "see its log")
        if self._is_gone and not events:
            return events, WorkerEnd("the Slurm job ended early (cancelled, failed, or its node was)", "see its log")
        return events, None

    def note_state(self, state: str | None) -> None:
        """What squeue shows of the element; None when nothing. Waiting for a place is no stall."""
        now = time.monotonic()
        if state != "RUNNING":
            self.last_progress_at = now
            if state is not None and not self.has_started:
                self.last_event_at = now
        self._is_gone = state is None and now - self.last_event_at > GRACE_SECONDS

    def _new_events(self) -> list[Event]:
        """The whole lines of the events file that are new; one that a kill tore is none."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        events = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                events += [decode(line)] if line else []
        return events


class SlurmLauncher(Launcher):
    """Submits arrays: one for the waiting jobs of every model, later ones for what failed elements left."""

    def __init__(self, store: RunStore, limits: Limits, options: SlurmOptions) -> None:
        self.store, self.options = store, options
        self.max_workers = limits.max_workers or DEFAULT_WORKERS
        self._started = 0
        self._asked_at = time.monotonic()

    def capacity(self, model: ModelSpec) -> int:
        """See `Launcher`."""
        return self.max_workers

    def shares(self, queues: Mapping[str, Dispatch], free: int) -> Mapping[str, int]:
        """Places by the cost of what waits, at least one where any is left: an array takes all jobs of its model."""
        total = sum(queue.cost() for queue in queues.values())
        shares, left = {}, free
        for model, queue in sorted(queues.items(), key=lambda item: -item[1].cost()):
            part = round(free * queue.cost() / total) if total else 1
            shares[model] = min(left, max(1, part))
            left -= shares[model]
        return shares

    def start(self, model: ModelSpec, count: int, queue: Dispatch) -> list[SlurmWorker]:
        """See `Launcher`."""
        slices = []
        for jobs in balanced(queue.take_all(), count):
            self._started += 1
            slices.append(Slice(str(self.store.folder), model.name, f"s{self._started}", jobs))
        submitted = self.submitter(model).submit_array(slices)
        return [
            SlurmWorker(job, part.worker_id, model.name, part.jobs, self.store.events_path(part.worker_id))
            for part, job in zip(slices, submitted, strict=True)
        ]

    def submitter(self, model: ModelSpec) -> Any:
        """submitit's executor with what an element of this model needs."""
        import submitit

        wanted: dict[str, Any] = {
            "job_name": f"evalkit-{model.name}"[:60],
            "array_parallelism": self.max_workers,
            "time": self.options.minutes,
            "stderr_to_stdout": True,
            "signal_delay_s": 60,
        }
        named = {"partition": self.options.partition, "qos": self.options.qos}
        wanted |= {key: value for key, value in named.items() if value}
        if takes_devices(model):
            wanted["gres"] = f"gpu:{model.gpus}"
        folder = self.store.log_path("slurm").with_suffix("")
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MAX_REQUEUES)
        executor.update_parameters(**wanted)
        return executor

    def wait(self, workers: Sequence[SlurmWorker]) -> None:
        """See `Launcher`; now and then squeue is asked which elements still exist."""
        time.sleep(POLL_SECONDS)
        if time.monotonic() - self._asked_at < SQUEUE_SECONDS:
            return
        self._asked_at = time.monotonic()
        states = element_states({worker.slurm.job_id.split("_")[0] for worker in workers})
        for worker in workers:
            worker.note_state(states.get(worker.slurm.job_id))

    def end(self, worker: SlurmWorker) -> None:
        """See `Launcher`."""
        if not worker.has_ended:
            worker.slurm.cancel(check=False)


class SlurmRunner:
    """`--runner slurm`: arrays of workers on a partition."""

    def __init__(self, limits: Limits | None = None, options: SlurmOptions | None = None) -> None:
        self.limits, self.options = limits or Limits(), options or SlurmOptions()

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        if shutil.which("sbatch") is None:
            raise ConfigError("--runner slurm finds no sbatch", "run it on a machine that submits to Slurm")
        try:
            import submitit
        except ImportError as error:
            raise ConfigError("--runner slurm needs submitit, which is not installed", HINT) from error
        launcher = SlurmLauncher(store, self.limits, self.options)
        try:
            return Pool(launcher, plan, jobs, progress, self.limits.stall_seconds).run()
        except submitit.core.utils.FailedSubmissionError as error:
            raise ConfigError(f"Slurm refuses the jobs: {error}", "check --partition and --qos") from error


def balanced(jobs: Sequence[Job], count: int) -> list[list[Job]]:
    """The jobs in at most `count` parts of about equal cost; each part keeps their order."""
    parts: list[list[int]] = [[] for _ in range(count)]
    costs = [0.0] * count
    for place in sorted(range(len(jobs)), key=lambda i: -jobs[i].cost):
        cheapest = costs.index(min(costs))
        parts[cheapest].append(place)
        costs[cheapest] += jobs[place].cost
    return [[jobs[place] for place in sorted(part)] for part in parts if part]


def element_states(arrays: Iterable[str]) -> Mapping[str, str]:
    """Job id (`<array>_<element>`) -> state of the elements that squeue shows; ConfigError when it does not answer."""
    command = ["squeue", "--noheader", "--array", "--format", "%i %T", "--jobs", ",".join(arrays)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode and "Invalid job id" not in done.stderr:
        raise ConfigError(
            f"squeue failed: {done.stderr.strip()}", "the array goes on; the same command finds its answers"
        )
    return dict(line.split() for line in done.stdout.splitlines() if line.strip())
