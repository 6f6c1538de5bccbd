"""`--debug`: all jobs in this process, logs and tracebacks on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core.errors import ModelError, StoreError
from evalkit.core.records import Job
from evalkit.engines.catalog import create_engine
from evalkit.execution.runner import JobFailure, Outcome, Progress
from evalkit.execution.worker import Event, Worker, run_guarded
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore


class DebugRunner:
    """Runs the same worker code in this process; nothing is tried twice."""

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        failures: list[JobFailure] = []
        facts: dict[str, Mapping[str, Any]] = {}
        seconds: dict[int, float] = {}
        for model in dict.fromkeys(job.model for job in jobs):
            own = [job for job in jobs if job.model == model]
            try:
                engine = create_engine(plan.models[model])
            except ModelError as error:
                failures += [JobFailure(job, error.message, error.hint) for job in own]
                continue
            facts[model] = dict(engine.describe())
            worker = Worker(store, plan, model, "debug", engine)
            for job in own:
                run_guarded(worker, job, Listener(job, failures, seconds, progress))
                progress(job, 1.0)
            engine.close()
        return Outcome(tuple(failures), facts, seconds)


class Listener:
    """Turns a worker's events into the outcome."""

    def __init__(self, job: Job, failures: list[JobFailure], seconds: dict[int, float], progress: Progress) -> None:
        self.job, self.failures, self.seconds, self.progress = job, failures, seconds, progress

    def __call__(self, event: Event) -> None:
        if event["event"] == "progress":
            self.progress(self.job, event["done"] / max(1, event["of"]))
        elif event["event"] == "failed":
            if event["kind"] == StoreError.__name__:
                raise StoreError(event["error"], event["hint"])
            self.failures.append(JobFailure(self.job, event["error"], event["hint"]))
        elif event["event"] == "done":
            self.seconds[self.job.id] = event["seconds"]
            if event["errors"]:
                cause = f"{event['errors']} of {event['asked']} requests got no answer: {event['first_error']}"
                self.failures.append(JobFailure(self.job, cause))
