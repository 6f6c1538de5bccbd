"""Runs jobs on a Ray cluster: one actor a device set, each with one model load.

Ray places actors and reports their deaths; which job comes next, and what becomes of one that failed,
is decided as for local workers. Ray's own retries are off: they would run a whole job again and again
where one sample kills its worker, and they do not notice workers that hang.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.core.records import Job, ModelSpec, Reply, Request
from evalkit.execution.devices import takes_devices
from evalkit.execution.dispatch import Dispatch
from evalkit.execution.events import Ended, Event, JobDone, JobFailed, ReplyMade, RequestIndexed, decode, encode
from evalkit.execution.pool import InteractiveHandle, Launcher, Pool, WorkerEnd
from evalkit.execution.runner import Limits, Outcome, Progress
from evalkit.execution.worker import forward, loader, serve, start_heartbeat
from evalkit.plan.plan import RunPlan
from evalkit.results.store import LineWriter, ReplyWriter, RunStore

POLL_SECONDS = 0.5
HINT = "pip install 'evalkit[ray]'"
Assignment = tuple[Job, frozenset[str]]
"""A job and the keys of its requests that have an answer."""


class RemoteStore:
    """Stands in for the run's folder on a node that does not see it: replies travel back as events."""

    def __init__(self, manifest: Mapping[str, Any], send: Callable[[Event], None]) -> None:
        self._manifest, self._send = manifest, send
        self._job = 0
        self._answered: frozenset[str] = frozenset()

    def begin(self, job: Job, answered: frozenset[str]) -> None:
        """The job whose requests are asked next."""
        self._job, self._answered = job.id, answered

    def manifest(self) -> Mapping[str, Any]:
        """The run's manifest, as the driver sent it."""
        return self._manifest

    def replies(self, *_where: str) -> dict[str, Reply]:
        """What the driver says has an answer; only the keys count."""
        return {key: Reply(key) for key in self._answered}

    def writer(self, *_where: str) -> RemoteStore:
        """Itself: the driver knows where the job's replies belong."""
        return self

    def index_writer(self, *_where: str) -> RemoteStore:
        """Itself, too."""
        return self

    def index_lines(self, *_where: str) -> Iterator[dict[str, Any]]:
        """None: the driver takes a line twice without harm."""
        return iter(())

    def append_line(self, line: Mapping[str, Any]) -> None:
        """Send one line of the index to the driver."""
        self._send(RequestIndexed(self._job, line))

    def append(self, request: Request, reply: Reply) -> None:
        """Send one reply to the driver."""
        self._send(ReplyMade(self._job, request.sample_id, request.label, reply))

    def close(self) -> None:
        """Nothing is held open."""


class Actor:
    """A worker in a thread of a Ray actor, so that it can be asked for events while it computes."""

    def __init__(self, folder: str, manifest: Mapping[str, Any], model: str, worker_id: str) -> None:
        self._inbox: queue.Queue[Assignment | None] = queue.Queue()
        self._lines: queue.Queue[str] = queue.Queue()
        store = RunStore(Path(folder))
        # the same folder, not another one with the same name
        self._remote = None if _manifest(store) == manifest else RemoteStore(manifest, self._send)
        chosen: Any = self._remote or store
        start_heartbeat(self._send)
        threading.Thread(target=self._work, args=(loader(lambda: chosen, model, worker_id),), daemon=True).start()

    def assign(self, assignment: Assignment | None) -> None:
        """The next job; None when there is no more."""
        self._inbox.put(assignment)

    def events(self) -> list[str]:
        """The lines of the events since the last call; waits a moment for the first one."""
        lines: list[str] = []
        with contextlib.suppress(queue.Empty):
            lines.append(self._lines.get(timeout=POLL_SECONDS))
            while True:
                lines.append(self._lines.get_nowait())
        return lines

    def _send(self, event: Event) -> None:
        self._lines.put(encode(event))

    def _work(self, load: Callable[[], Any]) -> None:
        try:
            forward(serve(load, self._jobs()), self._send)
        finally:
            self._send(Ended())

    def _jobs(self) -> Iterator[Job]:
        while (assignment := self._inbox.get()) is not None:
            job, answered = assignment
            if self._remote:
                self._remote.begin(job, answered)
            yield job


def _manifest(store: RunStore) -> Mapping[str, Any] | None:
    try:
        return store.manifest()
    except EvalkitError:
        return None


class RayWorker(InteractiveHandle):
    """An actor. One that waits for a place on the cluster has not started, and may wait."""

    def __init__(self, actor: Any, store: RunStore, model: str, worker_id: str) -> None:
        super().__init__(worker_id, model, "the logs of Ray")
        self.has_answered = False
        """Whether `pending_call` has returned."""
        self._actor, self._store = actor, store
        self._writer: ReplyWriter | None = None
        self._index: LineWriter | None = None
        self.pending_call = actor.events.remote()

    def send_job(self, job: Job) -> None:
        """See `InteractiveHandle`."""
        known = self._store.replies(job.model, job.benchmark, job.subset)
        self._actor.assign.remote((job, frozenset(key for key, reply in known.items() if not reply.error)))

    def shut_down(self) -> None:
        """See `InteractiveHandle`."""
        self._actor.assign.remote(None)

    def read(self) -> tuple[Sequence[Event], WorkerEnd | None]:
        """See `WorkerHandle`; replies that could not be written where they were made are written here."""
        import ray

        if not self.has_answered:
            return [], None
        self.has_answered = False
        try:
            events = [decode(line) for line in ray.get(self.pending_call)]
        except ray.exceptions.RayError as error:
            cause = f"the worker died on its node ({type(error).__name__})"
            return [], WorkerEnd(cause, "see the logs of Ray; more memory or fewer workers may help")
        for event in events:
            if isinstance(event, ReplyMade):
                self._write(event)
            elif isinstance(event, RequestIndexed):
                self._write_index(event)
            elif isinstance(event, (JobDone, JobFailed)):
                self._close_writers()
        if any(isinstance(event, Ended) for event in events):
            return events, WorkerEnd("the worker ended early", "see the logs of Ray")
        self.pending_call = self._actor.events.remote()
        return events, None

    def _write(self, made: ReplyMade) -> None:
        if self.job is None or self.job.id != made.job:
            return
        if self._writer is None:
            self._writer = self._store.writer(self.job.model, self.job.benchmark, self.job.subset, self.id)
        self._writer.append(Request(made.reply.key, made.sample_id, "gen", label=made.label), made.reply)

    def _write_index(self, indexed: RequestIndexed) -> None:
        if self.job is None or self.job.id != indexed.job:
            return
        if self._index is None:
            self._index = self._store.index_writer(self.job.model, self.job.benchmark, self.job.subset, self.id)
        self._index.append_line(indexed.line)

    def _close_writers(self) -> None:
        """The job is over: its replies and index lines are on the disk."""
        for writer in (self._writer, self._index):
            if writer is not None:
                writer.close()
        self._writer = self._index = None

    def kill(self) -> None:
        """Give the actor's devices back."""
        import ray

        self._close_writers()
        ray.kill(self._actor)


class RayLauncher(Launcher):
    """Asks Ray for actors, which it places when there is room."""

    def __init__(self, store: RunStore, limits: Limits) -> None:
        self.store, self.manifest = store, store.manifest()
        self._limit = limits.max_workers
        self.max_workers = limits.max_workers or sys.maxsize
        self._started = 0

    def capacity(self, model: ModelSpec) -> int:
        """Actors that a model may have now; the cluster may grow and shrink.

        An actor's GPUs are all on one node. Without any GPU there is one actor a node, or as many as are allowed.
        """
        gpus = _gpus_of_nodes()
        if takes_devices(model) and any(gpus):
            return sum(int(count // model.gpus) for count in gpus)
        return self._limit or len(gpus)

    def no_room(self, model: ModelSpec) -> WorkerEnd:
        """See `Launcher`."""
        most = int(max(_gpus_of_nodes(), default=0))
        return WorkerEnd(
            f"{model.name} needs {model.gpus} GPUs on one node, no node has more than {most}", "--gpus-per-model"
        )

    def start(self, model: ModelSpec, count: int, queue: Dispatch) -> list[RayWorker]:
        """See `Launcher`."""
        import ray

        gpus = model.gpus if takes_devices(model) and any(_gpus_of_nodes()) else 0
        workers = []
        for _ in range(count):
            self._started += 1
            worker_id = f"ray{self._started}"
            make: Any = ray.remote(Actor).options(num_gpus=gpus, num_cpus=1, max_restarts=0, max_concurrency=2)
            actor = make.remote(str(self.store.folder), self.manifest, model.name, worker_id)
            workers.append(RayWorker(actor, self.store, model.name, worker_id))
        return workers

    def wait(self, workers: Sequence[RayWorker]) -> None:
        """See `Launcher`."""
        import ray

        calls = {worker.pending_call: worker for worker in workers}
        answered, _ = ray.wait(list(calls), num_returns=len(calls), timeout=POLL_SECONDS)
        for call in answered:
            calls[call].has_answered = True

    def end(self, worker: RayWorker) -> None:
        """See `Launcher`."""
        worker.kill()


class RayRunner:
    """`--runner ray`: workers on the nodes of a cluster, or of a local one without an address."""

    def __init__(self, limits: Limits | None = None, address: str = "") -> None:
        self.limits, self.address = limits or Limits(), address

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        try:
            import ray
        except ImportError as error:
            raise ConfigError("--runner ray needs Ray, which is not installed", HINT) from error
        try:
            # this code travels by import, so nodes need evalkit installed, or at the same path
            ray.init(
                address=self.address or None, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"no Ray cluster at {self.address!r}: {error}", "check --ray-address") from error
        try:
            return Pool(RayLauncher(store, self.limits), plan, jobs, progress, self.limits.stall_seconds).run()
        finally:
            ray.shutdown()


def _gpus_of_nodes() -> list[float]:
    """GPUs of every node that is alive."""
    import ray

    return [float(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
