"""What of a plan is still to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalkit.core.records import Job, Sample
from evalkit.plan.manifest import RunPlan
from evalkit.plan.planning import Planned
from evalkit.plan.task import Task, requests_of
from evalkit.results.store import RunStore


def open_jobs(planned: Planned, store: RunStore, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that still have unanswered requests in the store."""
    plan = planned.plan
    answered: dict[tuple[str, str], set[str]] = {}
    by_pair = {(p.model, p.benchmark): t for p, t in planned.tasks.items()}
    kept = []
    for job in jobs:
        where = (job.model, job.benchmark)
        if where not in answered:
            answered[where] = {k for k, r in store.replies(*where).items() if not r.error}
        done = answered[where]
        if not done or any(k not in done for k in _keys(plan, by_pair[where], job)):
            kept.append(job)
    return kept


def _keys(plan: RunPlan, task: Task, job: Job) -> Iterator[str]:
    samples: list[Sample] = task.samples(job.subset)[job.start : job.stop]
    for sample in samples:
        for request in requests_of(task, sample, plan.models[job.model], plan.fingerprints[job.model], plan.seed):
            yield request.key
