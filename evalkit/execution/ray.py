"""Runs jobs on a Ray cluster: one actor a device set, each with one model load.

Ray places actors and tells of their deaths; which job comes next, and what becomes of one that failed,
is decided as for local workers. Ray's own retries are off: they would run a whole job again and again
where one sample kills its worker, and they do not know hung ones.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.core.records import Job, ModelSpec, Reply, Request
from evalkit.execution.pool import Crew
from evalkit.execution.runner import Limits, Outcome, Progress
from evalkit.execution.worker import Event, serve
from evalkit.plan.plan import RunPlan
from evalkit.results.store import LineWriter, ReplyWriter, RunStore

POLL_SECONDS = 0.5
HINT = "pip install 'evalkit[ray]'"
Handed = tuple[Job, frozenset[str]]
"""A job and the keys of its requests that have an answer."""


class FarStore:
    """Stands in for the run's folder on a node that does not see it: replies go back as events."""

    def __init__(self, manifest: Mapping[str, Any], send: Any) -> None:
        self._manifest, self._send = manifest, send
        self.answered: frozenset[str] = frozenset()

    def manifest(self) -> Mapping[str, Any]:
        """The run's manifest, as the driver sent it."""
        return self._manifest

    def replies(self, *_where: str) -> dict[str, Reply]:
        """What the driver says has an answer; only the keys count."""
        return {key: Reply(key) for key in self.answered}

    def writer(self, *_where: str) -> FarStore:
        """Itself: the driver knows which job runs."""
        return self

    def index_writer(self, *_where: str) -> FarStore:
        """Itself, too."""
        return self

    def index_lines(self, *_where: str) -> Iterator[dict[str, Any]]:
        """None: the driver takes a line twice without harm."""
        return iter(())

    def append_line(self, line: Mapping[str, Any]) -> None:
        """Send one line of the index to the driver."""
        self._send({"event": "indexed", "line": line})

    def append(self, request: Request, reply: Reply) -> None:
        """Send one reply to the driver."""
        self._send({"event": "reply", "request": request, "reply": reply})

    def close(self) -> None:
        """Nothing is held open."""


class Actor:
    """A worker in a thread of a Ray actor, so that it can be asked for news while it computes."""

    def __init__(self, folder: str, manifest: Mapping[str, Any], model: str, worker_id: str) -> None:
        self._inbox: queue.Queue[Handed | None] = queue.Queue()
        self._news: queue.Queue[Event] = queue.Queue()
        store = RunStore(Path(folder))
        # the same folder, not another one that is called the same
        self._far = None if _manifest(store) == manifest else FarStore(manifest, self._news.put)
        chosen: Any = self._far or store
        arguments = (lambda: chosen, model, worker_id, self._jobs(), self._news.put)
        threading.Thread(target=serve, args=arguments, daemon=True).start()

    def hand(self, handed: Handed | None) -> None:
        """The next job; None when there is no more."""
        self._inbox.put(handed)

    def news(self) -> list[Event]:
        """What happened since the last call; waits a moment for something to happen."""
        found: list[Event] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._news.get(timeout=POLL_SECONDS))
            while True:
                found.append(self._news.get_nowait())
        return found

    def _jobs(self) -> Iterator[Job]:
        while (handed := self._inbox.get()) is not None:
            job, answered = handed
            if self._far:
                self._far.answered = answered
            yield job


def _manifest(store: RunStore) -> Mapping[str, Any] | None:
    try:
        return store.manifest()
    except EvalkitError:
        return None


class RayWorker:
    """An actor, as its runner sees it."""

    def __init__(self, actor: Any, store: RunStore, model: str, worker_id: str) -> None:
        self.id, self.model = worker_id, model
        self.log = "the logs of Ray"
        self.ready = False
        self.job: Job | None = None
        self.moved = time.monotonic()
        self.gone = False
        self._actor, self._store = actor, store
        self._writer: ReplyWriter | None = None
        self._index: LineWriter | None = None
        self.asked = actor.news.remote()

    def hand(self, job: Job) -> None:
        """See `Member`."""
        self.job, self.moved = job, time.monotonic()
        found = self._store.replies(job.model, job.benchmark, job.subset)
        self._actor.hand.remote((job, frozenset(key for key, reply in found.items() if not reply.error)))

    def dismiss(self) -> None:
        """See `Member`."""
        self.gone = True

    def take(self, event: Event) -> None:
        """Keep a reply, or a line of the index, that could not be written where it was made."""
        assert self.job is not None
        if event["event"] == "indexed":
            if self._index is None:
                self._index = self._store.index_writer(self.job.model, self.job.benchmark, self.job.subset, self.id)
            self._index.append_line(event["line"])
            return
        if self._writer is None:
            self._writer = self._store.writer(self.job.model, self.job.benchmark, self.job.subset, self.id)
        self._writer.append(event["request"], event["reply"])

    def close(self) -> None:
        """The job is over: its replies are on the disk."""
        for writer in (self._writer, self._index):
            if writer is not None:
                writer.close()
        self._writer = self._index = None

    def ask(self) -> None:
        """Wait for more news."""
        self.asked = self._actor.news.remote()

    def end(self) -> None:
        """Give the actor's devices back."""
        import ray

        self.close()
        ray.kill(self._actor)


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
        session = _Session(store, plan, jobs, progress, self.limits)
        try:
            return session.run()
        finally:
            session.stop()
            ray.shutdown()


class _Session:
    """The actors of one run."""

    def __init__(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress, limits: Limits) -> None:
        self.store, self.plan, self.limits = store, plan, limits
        self.manifest = store.manifest()
        self.workers: list[RayWorker] = []
        self.started = 0
        self.room = {spec.name: self._most(spec) for spec in plan.models.values()}
        self.crew = Crew(plan, jobs, progress, lambda model: max(1, self.room[model]))

    def run(self) -> Outcome:
        import ray

        while True:
            self._launch()
            if not self.workers:
                return self.crew.outcome()
            waiting = {worker.asked: worker for worker in self.workers}
            heard, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=POLL_SECONDS)
            for reference in heard:
                self._hear(waiting[reference])
            for worker in list(self.workers):
                self._replace_stuck(worker)

    def stop(self) -> None:
        """Leave no actor behind."""
        for worker in self.workers:
            worker.end()
        self.workers = []

    def _hear(self, worker: RayWorker) -> None:
        import ray

        try:
            events = ray.get(worker.asked)
        except ray.exceptions.RayError as error:
            self._leave(worker)
            said = f"the worker died on its node ({type(error).__name__})"
            self.crew.lost(worker, said, "see the logs of Ray; more memory or fewer workers may help")
            return
        for event in events:
            worker.moved = time.monotonic()
            if event["event"] in ("reply", "indexed"):
                worker.take(event)
                continue
            if event["event"] in ("done", "failed"):
                worker.close()
            if not self.crew.hear(worker, event, self.workers) or event["event"] == "load_failed":
                worker.dismiss()
            if event["event"] == "failed" and event["kind"] == MemoryError.__name__:
                worker.dismiss()
        if worker.gone:
            self._leave(worker)
        else:
            worker.ask()

    def _replace_stuck(self, worker: RayWorker) -> None:
        """End an actor that is loaded and does not go on. One that waits for a place is let wait."""
        if worker.job and time.monotonic() - worker.moved > self.limits.stall_seconds:
            self._leave(worker)
            said = f"the worker made no progress for {self.limits.stall_seconds:g} s"
            self.crew.lost(worker, said, "if it only is slow, give more time with --stall-timeout SECONDS")

    def _leave(self, worker: RayWorker) -> None:
        self.workers.remove(worker)
        worker.end()

    def _launch(self) -> None:
        """Ask for actors while there are jobs without one; Ray places them when there is room."""
        import ray

        for model, jobs in self.crew.queues.items():
            spec = self.plan.models[model]
            idle = sum(w.model == model and not w.ready for w in self.workers)
            while jobs and idle < jobs.useful_workers() and self._count(model) < self._most(spec):
                self.started += 1
                name = f"ray{self.started}"
                make: Any = ray.remote(Actor).options(
                    num_gpus=spec.gpus if _gpus() else 0, num_cpus=1, max_restarts=0, max_concurrency=2
                )
                actor = make.remote(str(self.store.folder), self.manifest, model, name)
                self.workers.append(RayWorker(actor, self.store, model, name))
                idle += 1

    def _count(self, model: str) -> int:
        return sum(worker.model == model for worker in self.workers)

    def _most(self, spec: ModelSpec) -> int:
        """Actors that a model may have now; the cluster may grow and shrink."""
        import ray

        gpus = _gpus()
        here = int(gpus // spec.gpus) if gpus else sum(bool(node["Alive"]) for node in ray.nodes())
        return (
            min(here, self.limits.max_workers) if gpus and self.limits.max_workers else self.limits.max_workers or here
        )


def _gpus() -> float:
    """GPUs of the cluster."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))
