"""What every runner does with its workers' words: hand out jobs, note progress, facts and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from evalkit.core.errors import StoreError
from evalkit.core.records import Job
from evalkit.execution.dispatch import TRIES, Dispatch
from evalkit.execution.runner import JobFailure, Outcome, Progress
from evalkit.plan.plan import RunPlan


class Member(Protocol):
    """A worker, wherever it runs."""

    model: str
    log: str
    """Where its output is."""
    ready: bool
    """Whether its model is loaded."""
    job: Job | None

    def hand(self, job: Job) -> None:
        """Give it its next job."""
        ...

    def dismiss(self) -> None:
        """Let it go home."""
        ...


class Crew:
    """The jobs of one run and what its workers told of them."""

    def __init__(
        self, plan: RunPlan, jobs: Sequence[Job], progress: Progress, workers_for: Callable[[str], int]
    ) -> None:
        """`workers_for(model)`: how many workers may share a model's jobs."""
        self.plan, self.progress = plan, progress
        first_new = max((job.id for job in jobs), default=0) + 1
        asked = [m for m in plan.models if any(job.model == m for job in jobs)]
        self.queues = {
            # numbers of split jobs must differ between models too
            m: Dispatch([job for job in jobs if job.model == m], first_new + (k << 32), workers_for(m))
            for k, m in enumerate(asked)
        }
        self._load_deaths: Counter[str] = Counter()
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._seconds: dict[int, float] = {}
        self._errors: list[JobFailure] = []

    def outcome(self) -> Outcome:
        """How everything ended."""
        failures = [f for queue in self.queues.values() for f in queue.failures]
        return Outcome((*self._errors, *failures), self._facts, self._seconds)

    def hear(self, member: Member, event: Mapping[str, Any], mates: Sequence[Member]) -> bool:
        """Act on an event; false when the model cannot be loaded where `mates` have it loaded.

        StoreError when results cannot be written.
        """
        kind = event["event"]
        if kind == "ready":
            member.ready = True
            self._facts[member.model] = event["facts"]
            self.next_job(member)
        elif kind == "load_failed":
            if any(m is not member and m.model == member.model and m.ready for m in mates):
                return False
            self.give_up(member.model, event["error"], event["hint"], member.log)
        elif kind == "progress" and member.job:
            self.progress(member.job, event["done"] / max(1, event["of"]))
        elif kind == "done" and member.job:
            self._finished(member, member.job, event)
        elif kind == "failed" and member.job:
            if event["kind"] == StoreError.__name__:
                raise StoreError(event["error"], event["hint"])
            self._failed(member, event["error"], event["hint"], event["kind"])
            if event["kind"] != MemoryError.__name__:  # such a worker ends itself
                self.next_job(member)
        return True

    def lost(self, member: Member, cause: str, hint: str) -> None:
        """A worker died, or was ended, in the middle of whatever it did."""
        if member.job:
            self._failed(member, cause, hint)
        elif not member.ready and self.queues[member.model]:
            self._load_deaths[member.model] += 1
            if self._load_deaths[member.model] >= TRIES:
                self.give_up(member.model, f"while loading the model: {cause}", hint, member.log)

    def next_job(self, member: Member) -> None:
        """Hand out the next job, or send the worker home."""
        job = self.queues[member.model].take()
        if job is not None:
            member.hand(job)
        else:
            member.dismiss()

    def give_up(self, model: str, cause: str, hint: str, log: str = "") -> None:
        """None of a model's waiting jobs can be run."""
        self._drop(self.queues[model].give_up(cause, hint, log))

    def _finished(self, member: Member, job: Job, event: Mapping[str, Any]) -> None:
        self._seconds[job.id] = event["seconds"]
        self.progress(job, 1.0)
        self.queues[member.model].done(job)
        if event["errors"]:
            cause = f"{event['errors']} of {event['asked']} requests got no answer: {event['first_error']}"
            self._errors.append(JobFailure(job, cause, log=member.log))
        member.job = None
        self.next_job(member)

    def _failed(self, member: Member, cause: str, hint: str, kind: str = "") -> None:
        """Have the worker's job tried again, in parts, or given up."""
        job, member.job = member.job, None
        assert job is not None
        self.progress(job, 0.0)
        self._drop(self.queues[job.model].failed(job, cause, hint, member.log, kind))

    def _drop(self, jobs: Sequence[Job]) -> None:
        """Nothing more is to be waited for in these jobs."""
        for job in jobs:
            self.progress(job, 1.0)
