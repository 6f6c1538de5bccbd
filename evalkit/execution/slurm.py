"""Runs jobs as a Slurm array through submitit: every element loads one model and runs a slice of the plan.

Slurm schedules, requeues what is preempted, and enforces limits; an element that comes back goes on
from the store. Elements write what happens into files of the run's folder, which must be shared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.records import Job
from evalkit.engines.catalog import entry_of
from evalkit.execution.pool import Crew
from evalkit.execution.runner import Limits, Outcome, Progress
from evalkit.execution.worker import Event, serve, start_heartbeat
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore

HINT = "pip install 'evalkit[slurm]'"
WORKERS = 16
"""Elements of an array where the command names no number."""
POLL_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How often squeue is asked whether elements still live."""
GRACE_SECONDS = 15.0
"""An element that squeue does not show any more may still have words on their way through the file system."""
HEARTBEAT_SECONDS = 10.0
MOST_TIMEOUTS = 100
"""Requeues after a time limit, which each find something done."""
OVER: Event = {"event": "over"}


@dataclass(frozen=True)
class SlurmOptions:
    """What is asked of Slurm."""

    partition: str = ""
    qos: str = ""
    minutes: int = 24 * 60
    """Time limit of an element; one that reaches it is requeued and goes on."""


class Slice:
    """What one array element runs; submitit calls it again after a preemption or a time-out."""

    def __init__(self, folder: str, model: str, worker_id: str, jobs: Sequence[Job]) -> None:
        self.folder, self.model, self.worker_id, self.jobs = folder, model, worker_id, tuple(jobs)

    def __call__(self) -> int:
        """Run the jobs; what happens goes to the events file."""
        store = RunStore(Path(self.folder))
        lock = threading.Lock()
        print(f"devices: {os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}", flush=True)
        with store.events_path(self.worker_id).open("a", encoding="utf-8") as file:

            def send(event: Event) -> None:
                with lock:
                    file.write(json.dumps(event) + "\n")
                    file.flush()

            start_heartbeat(send, HEARTBEAT_SECONDS)
            code = serve(lambda: store, self.model, self.worker_id, self.jobs, send)
            send(OVER)
        return code

    def checkpoint(self, *_args: Any) -> Any:
        """Asked for by submitit in front of a requeue: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass
class Element:
    """An array element, as its runner sees it."""

    slurm: Any
    """submitit's job."""
    id: str
    model: str
    todo: list[Job]
    events: Path
    log: str
    ready: bool = False
    job: Job | None = None
    over: bool = False
    heard: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)
    """When it last told of more than being alive."""
    _offset: int = 0

    def hand(self, job: Job) -> None:
        """Nothing to hand: an element has its jobs from the start."""

    def dismiss(self) -> None:
        """It goes home by itself."""

    def read(self) -> list[Event]:
        """Whole lines of the events file that are new."""
        try:
            with self.events.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        if whole:
            self.heard = time.monotonic()
        events = [json.loads(line) for line in whole.splitlines() if line]
        if any(event["event"] != "alive" for event in events):
            self.moved = self.heard
        return events


class SlurmCrew(Crew):
    """A crew whose members know their jobs beforehand."""

    def next_job(self, member: Any) -> None:
        """The next of the member's own."""
        member.job = member.todo.pop(0) if member.todo else None

    def give_back(self, member: Any) -> None:
        """What a member did not begin is for others."""
        while member.todo:
            self.queues[member.model].put_back(member.todo.pop())


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
        try:
            session = _Session(store, plan, jobs, progress, self.limits, self.options)
            return session.run()
        except submitit.core.utils.FailedSubmissionError as error:
            raise ConfigError(f"Slurm refuses the jobs: {error}", "check --partition and --qos") from error


class _Session:
    """The arrays of one run."""

    def __init__(
        self,
        store: RunStore,
        plan: RunPlan,
        jobs: Sequence[Job],
        progress: Progress,
        limits: Limits,
        options: SlurmOptions,
    ) -> None:
        self.store, self.plan, self.options = store, plan, options
        self.stall = limits.stall_seconds
        self.most = limits.max_workers or WORKERS
        self.crew = SlurmCrew(plan, jobs, progress, lambda model: self.most)
        self.elements: list[Element] = []
        self.started = 0
        self.looked = time.monotonic()

    def run(self) -> Outcome:
        try:
            while any(self.crew.queues.values()) or self.elements:
                self._submit()
                time.sleep(POLL_SECONDS)
                for element in list(self.elements):
                    self._read(element)
                self._look()
            return self.crew.outcome()
        finally:
            for element in self.elements:
                element.slurm.cancel(check=False)

    def _submit(self) -> None:
        """An array for the waiting jobs of every model; later waves are those of failed elements."""
        cost = {m: queue.cost() for m, queue in self.crew.queues.items() if queue}
        for model, own in cost.items():
            free = self.most - len(self.elements)
            share = max(1, round(free * own / sum(cost.values())))
            count = min(share, self.crew.queues[model].useful_workers())
            parts = balanced(self._all_jobs(model), count)
            tasks = []
            for jobs in parts:
                self.started += 1
                tasks.append(Slice(str(self.store.folder), model, f"s{self.started}", jobs))
            for task, job in zip(tasks, self._executor(model).submit_array(tasks), strict=True):
                events = self.store.events_path(task.worker_id)
                log = str(job.paths.stderr)
                self.elements.append(Element(job, task.worker_id, model, list(task.jobs), events, log))

    def _all_jobs(self, model: str) -> list[Job]:
        found = []
        while (job := self.crew.queues[model].take()) is not None:
            found.append(job)
        return found

    def _executor(self, model: str) -> Any:
        """submitit's executor with what an element of this model needs."""
        import submitit

        spec = self.plan.models[model]
        wanted: dict[str, Any] = {
            "job_name": f"evalkit-{model}"[:60],
            "array_parallelism": self.most,
            "time": self.options.minutes,
            "stderr_to_stdout": True,
            "signal_delay_s": 60,
        }
        named = {"partition": self.options.partition, "qos": self.options.qos}
        wanted |= {key: value for key, value in named.items() if value}
        if entry_of(spec).uses_device and spec.device in ("auto", "cuda"):
            wanted["gres"] = f"gpu:{spec.gpus}"
        folder = self.store.log_path("slurm").with_suffix("")
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(**wanted)
        return executor

    def _read(self, element: Element) -> None:
        for event in element.read():
            if event["event"] == "over":
                element.over = True
            elif event["event"] == "load_failed":
                self.crew.give_back(element)
                self.crew.hear(element, event, self.elements)
            else:
                self.crew.hear(element, event, self.elements)
        if element.over:
            self.elements.remove(element)
            if element.job:  # it ended in the middle: no memory
                self.crew.lost(element, "the worker ended early", "see its log")
            self.crew.give_back(element)

    def _look(self) -> None:
        """Elements that Slurm does not know any more, or that hang, are replaced."""
        if time.monotonic() - self.looked < LOOK_SECONDS or not self.elements:
            return
        self.looked = time.monotonic()
        alive = living({e.slurm.job_id.split("_")[0] for e in self.elements})
        for element in list(self.elements):
            now, state = time.monotonic(), alive.get(element.slurm.job_id)
            if state != "RUNNING":
                element.moved = now  # the wait for a place is no stall
            if state is None and now - element.heard > GRACE_SECONDS:
                self._replace(element, "the Slurm job ended early (cancelled, failed, or its node was)")
            elif now - element.moved > self.stall:
                element.slurm.cancel(check=False)
                self._replace(element, f"the worker made no progress for {self.stall:g} s")

    def _replace(self, element: Element, cause: str) -> None:
        self.elements.remove(element)
        self.crew.lost(element, cause, "see its log")
        self.crew.give_back(element)


def balanced(jobs: Sequence[Job], count: int) -> list[list[Job]]:
    """The jobs in at most `count` parts of about equal cost, the costliest jobs of each first."""
    parts: list[list[Job]] = [[] for _ in range(count)]
    costs = [0.0] * count
    for job in sorted(jobs, key=lambda j: -j.cost):
        least = costs.index(min(costs))
        parts[least].append(job)
        costs[least] += job.cost
    return [part for part in parts if part]


def living(arrays: Iterable[str]) -> Mapping[str, str]:
    """Job id (`<array>_<element>`) -> state of the elements that squeue shows; ConfigError when it does not answer."""
    command = ["squeue", "--noheader", "--array", "--format", "%i %T", "--jobs", ",".join(arrays)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode and "Invalid job id" not in done.stderr:
        raise ConfigError(
            f"squeue failed: {done.stderr.strip()}", "the array goes on; the same command finds its answers"
        )
    return dict(line.split() for line in done.stdout.splitlines() if line.strip())
