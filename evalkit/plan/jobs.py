"""From a plan to jobs: slices of subsets, the costliest first."""

from __future__ import annotations

from collections.abc import Iterator

from evalkit.core.records import Job, Request
from evalkit.core.sequences import unique_length
from evalkit.plan.plan import Pair, Planned, RunPlan

SLICE_SAMPLES = 256
"""Most samples of a job: small enough to balance, large enough to fill batches."""
GEN_TOKEN_COST = 8.0
"""A generated token costs about as much as this many characters of prompt."""


def make_jobs(planned: Planned) -> list[Job]:
    """Slices of all subsets, the costliest first within each model."""
    jobs: list[Job] = []
    for pair in planned.runnable:
        for subset in planned.plan.task(pair).scored:
            jobs += _slices(planned.plan, pair, subset, len(jobs))
    order = list(planned.plan.models)
    return sorted(jobs, key=lambda j: (order.index(j.model), -j.cost, j.id))


def _slices(plan: RunPlan, pair: Pair, subset: str, first_id: int) -> Iterator[Job]:
    count, cost = len(plan.task(pair).samples(subset)), cost_per_sample(plan, pair, subset)
    for number, start in enumerate(range(0, count, SLICE_SAMPLES)):
        stop = min(start + SLICE_SAMPLES, count)
        yield Job(first_id + number, pair.model, pair.benchmark, subset, start, stop, cost * (stop - start))


def cost_per_sample(plan: RunPlan, pair: Pair, subset: str) -> float:
    """Characters to be read for one more sample, what it shares with the others left out, and what is written.

    Estimated from the first two samples.
    """
    first, *second = (list(plan.requests(pair, sample)) for sample in plan.task(pair).samples(subset)[:2])
    texts = [text_of(request) for request in first]
    own = unique_length([*texts, *map(text_of, second[0])]) - unique_length(texts) if second else unique_length(texts)
    return own + GEN_TOKEN_COST * sum(r.gen.max_out_len for r in first if r.gen)


def text_of(request: Request) -> str:
    """All that a request gives a model to read."""
    return "".join([request.text, request.continuation, *(turn.text for turn in request.turns)])
