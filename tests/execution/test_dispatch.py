"""Assigning jobs: the order, the split of the last ones, and the isolation of bad samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.records import Job
from evalkit.execution.dispatch import MAX_CONSECUTIVE_FAILURES, MIN_SPLIT, Dispatch

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=12)


def jobs_of(sizes: list[int]) -> list[Job]:
    made = [Job(i, "m", "b", f"s{i}", 0, size, cost=float(size)) for i, size in enumerate(sizes)]
    return sorted(made, key=lambda j: -j.cost)


def samples(jobs: list[Job]) -> list[tuple[str, int]]:
    return sorted((job.subset, i) for job in jobs for i in range(job.start, job.stop))


def work(queue: Dispatch, kills: Callable[[Job], bool], workers: int = 1) -> list[Job]:
    """Run all jobs in workers that some jobs kill, as many at a time; the jobs that ended well."""
    well: list[Job] = []
    while running := [job for job in (queue.take() for _ in range(workers)) if job is not None]:
        for job in running:
            if kills(job):
                queue.failed(job, "the worker crashed")
            else:
                queue.done(job)
                well.append(job)
    return well


@given(SIZES, st.integers(1, 64))
def test_every_sample_is_assigned_once(sizes: list[int], workers: int) -> None:
    jobs = jobs_of(sizes)
    queue = Dispatch(jobs, len(jobs), workers)
    taken = work(queue, lambda job: False)
    assert samples(taken) == samples(jobs)
    assert len({job.id for job in taken}) == len(taken)
    assert sum(job.cost for job in taken) == pytest.approx(sum(sizes))
    order = [(job.subset, i) for job in jobs for i in range(job.start, job.stop)]
    assert [(job.subset, i) for job in taken for i in range(job.start, job.stop)] == order
    if workers == 1:
        assert taken == jobs


def test_the_last_jobs_are_small_enough_for_all_workers() -> None:
    queue = Dispatch(jobs_of([256] * 3), 3, workers=8)
    assert queue.useful_workers() == 24
    taken = work(queue, lambda job: False)
    assert len(taken) >= 16 and min(j.stop - j.start for j in taken) >= MIN_SPLIT
    # what one worker holds is never more than a share of what was left
    left = 768.0
    for job in taken:
        assert job.cost <= max(left / 16, 2 * MIN_SPLIT)
        left -= job.cost


@settings(max_examples=40)
@given(SIZES, st.integers(1, 6), st.data())
def test_samples_that_kill_are_isolated(sizes: list[int], workers: int, data: st.DataObject) -> None:
    """They alone are given up, beside one healthy sample or a thousand."""
    jobs = jobs_of([*sizes, 200])
    everything = samples(jobs)
    bad = set(data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=2, unique=True)))
    queue = Dispatch(jobs, len(jobs), workers)
    well = work(queue, lambda job: bool(bad & set(samples([job]))), workers)
    assert samples([f.job for f in queue.failures]) == sorted(bad)
    assert samples(well) == sorted(set(everything) - bad)


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 60), st.integers(1, 8), st.integers(1, 40))
def test_jobs_that_kill_at_the_head_cost_no_healthy_one(bad: int, healthy: int, workers: int, size: int) -> None:
    """The costliest jobs are the first, and the ones that run out of memory."""
    jobs = jobs_of([size + 50 + i for i in range(bad)] + [size] * healthy)
    killers = {f"s{i}" for i in range(bad)}
    queue = Dispatch(jobs, len(jobs), workers)
    well = work(queue, lambda job: job.subset in killers, workers)
    assert samples(well) == samples([job for job in jobs if job.subset not in killers])
    assert {f.job.subset for f in queue.failures} == killers
    assert samples([f.job for f in queue.failures]) == samples([job for job in jobs if job.subset in killers])


def test_one_bad_sample_of_many_costs_only_itself() -> None:
    jobs = jobs_of([256, 100, 30])
    queue, deaths = Dispatch(jobs, 3), []

    def kills(job: Job) -> bool:
        hit = job.subset == "s0" and job.start <= 77 < job.stop
        deaths.extend([job] if hit else [])
        return hit

    well = work(queue, kills)
    assert [(f.job.start, f.job.stop) for f in queue.failures] == [(77, 78)]
    assert len(samples(well)) == 385 and len(deaths) <= 2 + 8


def test_a_model_that_always_fails_is_given_up_soon() -> None:
    queue, tries = Dispatch(jobs_of([256] * 57), 57), []

    def kills(job: Job) -> bool:
        tries.append(job)
        return True

    assert work(queue, kills) == [] and len(tries) == MAX_CONSECUTIVE_FAILURES
    assert samples([f.job for f in queue.failures]) == samples(jobs_of([256] * 57))


def test_an_error_that_concerns_all_samples_splits_nothing() -> None:
    queue = Dispatch(jobs_of([256, 8]), 2)
    job = queue.take()
    assert job is not None and queue.failed(job, "no chat template", kind="ModelError") == []
    again = queue.take()
    assert again == job and queue.failed(again, "no chat template", kind="ModelError") == [job]
    assert len(queue) == 1 and queue.failures[0].job == job
