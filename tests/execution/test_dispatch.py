"""Handing out jobs: the order, the split of the last ones, and the isolation of bad samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.records import Job
from evalkit.execution.dispatch import FUTILE, LEAST_SPLIT, Dispatch

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=12)


def jobs_of(sizes: list[int]) -> list[Job]:
    made = [Job(i, "m", "b", f"s{i}", 0, size, cost=float(size)) for i, size in enumerate(sizes)]
    return sorted(made, key=lambda j: -j.cost)


def samples(jobs: list[Job]) -> list[tuple[str, int]]:
    return sorted((job.subset, i) for job in jobs for i in range(job.start, job.stop))


def work(queue: Dispatch, kills: Callable[[Job], bool]) -> list[Job]:
    """Run all jobs in one worker that some jobs kill; the jobs that ended well."""
    well = []
    while (job := queue.take()) is not None:
        if kills(job):
            queue.failed(job, "the worker crashed")
        else:
            queue.done(job)
            well.append(job)
    return well


@given(SIZES, st.integers(1, 64))
def test_every_sample_is_handed_out_once(sizes: list[int], workers: int) -> None:
    jobs = jobs_of(sizes)
    queue = Dispatch(jobs, len(jobs), workers)
    taken = work(queue, lambda job: False)
    assert samples(taken) == samples(jobs)
    assert len({job.id for job in taken}) == len(taken)
    assert sum(job.cost for job in taken) == pytest.approx(sum(sizes))
    assert taken == jobs if workers == 1 else True


def test_the_last_jobs_are_small_enough_for_all_workers() -> None:
    queue = Dispatch(jobs_of([256] * 3), 3, workers=8)
    assert queue.useful_workers() == 24
    taken = work(queue, lambda job: False)
    assert len(taken) >= 16 and min(j.stop - j.start for j in taken) >= LEAST_SPLIT
    # what one worker holds is never more than a share of what was left
    left = 768.0
    for job in taken:
        assert job.cost <= max(left / 16, 2 * LEAST_SPLIT)
        left -= job.cost


@settings(max_examples=40)
@given(SIZES, st.data())
def test_samples_that_kill_are_isolated(sizes: list[int], data: st.DataObject) -> None:
    jobs = jobs_of([*sizes, 200])
    everything = samples(jobs)
    bad = set(data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=2, unique=True)))
    queue = Dispatch(jobs, len(jobs))
    well = work(queue, lambda job: bool(bad & set(samples([job]))))
    given_up = samples([f.job for f in queue.failures])
    assert sorted(samples(well) + given_up) == everything
    if bad & set(given_up) == set(given_up):
        return
    # only a fault that was taken for the model's may cost good samples
    assert any("in a row" in f.cause for f in queue.failures)


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

    assert work(queue, kills) == [] and len(tries) == FUTILE
    assert samples([f.job for f in queue.failures]) == samples(jobs_of([256] * 57))


def test_an_error_that_concerns_all_samples_splits_nothing() -> None:
    queue = Dispatch(jobs_of([256, 8]), 2)
    job = queue.take()
    assert job is not None and queue.failed(job, "no chat template", kind="ModelError") == []
    again = queue.take()
    assert again == job and queue.failed(again, "no chat template", kind="ModelError") == [job]
    assert len(queue) == 1 and queue.failures[0].job == job
