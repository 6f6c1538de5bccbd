"""What of a plan is still to be asked, and what must be on disk before anybody asks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from evalkit.core.records import Job, Request, Sample
from evalkit.plan.plan import Pair, Planned, RunPlan
from evalkit.results.index import exemplar_lines, index_line, keys_by_sample, request_version, sample_lines
from evalkit.results.store import RunStore

DRIVER = "driver"
"""Writes index lines in the place of a worker."""


def write_samples(plan: RunPlan, pairs: Iterable[Pair], store: RunStore, whole_rows: Collection[str]) -> None:
    """Keep the samples of a run and their exemplars, once for all models.

    `whole_rows` names the benchmarks whose scoring needs every column.
    """
    for pair in pairs:
        fingerprint = plan.facts_of(pair).data_fingerprint
        for subset in plan.task(pair).scored:
            if not store.has_samples(pair.benchmark, fingerprint, subset):
                content = sample_lines(plan.task(pair).samples(subset), pair.benchmark in whole_rows)
                exemplars = plan.task(pair).exemplars(subset)
                if exemplars.text or exemplars.turns:
                    store.write_exemplars(pair.benchmark, fingerprint, subset, exemplar_lines(exemplars))
                store.write_samples(pair.benchmark, fingerprint, subset, content)


def index_subset(
    plan: RunPlan, pair: Pair, store: RunStore, subset: str, samples: Sequence[Sample], worker: str
) -> dict[str, list[Request]]:
    """Render the requests of samples and keep their keys; sample id -> requests."""
    version = request_version(plan, pair)
    known = keys_by_sample(store.index_lines(pair.model, pair.benchmark, subset), version)
    requests = {sample.id: list(plan.requests(pair, sample)) for sample in samples}
    new = [name for name in requests if name not in known]
    if new:
        writer = store.index_writer(pair.model, pair.benchmark, subset, worker)
        try:
            for name in new:
                writer.append_line(index_line(version, name, requests[name]))
        finally:
            writer.close()
    return requests


def open_jobs(planned: Planned, store: RunStore, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that still have unanswered requests in the store."""
    plan = planned.plan
    by_subset: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs:
        by_subset.setdefault((job.model, job.benchmark, job.subset), []).append(job)
    unanswered = {
        job.id
        for (model, benchmark, subset), own in by_subset.items()
        for job in _unanswered(plan, Pair(model, benchmark), subset, store, own)
    }
    return [job for job in jobs if job.id in unanswered]


def _unanswered(plan: RunPlan, pair: Pair, subset: str, store: RunStore, jobs: Sequence[Job]) -> list[Job]:
    """The jobs of one subset that have a request without an answer."""
    if not store.has_replies(pair.model, pair.benchmark, subset):
        return list(jobs)
    answered = {k for k, r in store.replies(pair.model, pair.benchmark, subset).items() if not r.error}
    keys: Mapping[str, Mapping[str, str]] = keys_by_sample(
        store.index_lines(pair.model, pair.benchmark, subset), request_version(plan, pair)
    )
    kept = []
    for job in jobs:
        samples = plan.task(pair).samples(subset)[job.start : job.stop]
        if any(sample.id not in keys for sample in samples):
            # of an earlier version of the plan, or of evalkit: the answers may be there all the same
            rendered = index_subset(plan, pair, store, subset, samples, DRIVER)
            asked = [request.key for requests in rendered.values() for request in requests]
        else:
            asked = [key for sample in samples for key in keys[sample.id].values()]
        if any(key not in answered for key in asked):
            kept.append(job)
    return kept
