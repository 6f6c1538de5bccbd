"""Recorded outputs: answered in this process, before the runner that asks models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.core.records import Job
from evalkit.engines.catalog import entry_of
from evalkit.engines.recorded.engine import ENGINE, Outputs, RecordedEngine
from evalkit.execution.in_process import InProcessLauncher
from evalkit.execution.pool import Pool
from evalkit.execution.runner import JobFailure, Outcome, Progress, Runner
from evalkit.execution.worker import Worker
from evalkit.plan.plan import Pair, RunPlan
from evalkit.results.store import RunStore


class RecordedRunner:
    """Runs the jobs of recorded models here, and passes the others on."""

    def __init__(self, recorded: Mapping[Pair, Outputs], runner: Runner) -> None:
        self._recorded = recorded
        self._runner = runner

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        failures: list[JobFailure] = []
        facts: dict[str, Mapping[str, Any]] = {}
        seconds: dict[int, float] = {}
        for pair, outputs in self._recorded.items():
            jobs_of_pair = _whole([j for j in jobs if (j.model, j.benchmark) == (pair.model, pair.benchmark)])
            absent = [job for job in jobs_of_pair if job.subset in outputs.absent]
            hint = f"add them to {plan.models[pair.model].path}"
            failures += [JobFailure(job, "no recorded outputs of the subset", hint) for job in absent]
            for job in absent:
                progress(job, 1.0)
            engine = RecordedEngine(plan.models[pair.model], outputs)
            facts[pair.model] = {**facts.get(pair.model, {}), pair.benchmark: dict(engine.describe())}
            outcome = self._copy(store, plan, pair, [job for job in jobs_of_pair if job not in absent], progress)
            failures += outcome.failures
            seconds |= outcome.seconds
        others = [job for job in jobs if not entry_of(plan.models[job.model]).recorded]
        if not others:
            return Outcome(tuple(failures), facts, seconds)
        asked = self._runner.run(store, plan, others, progress)
        return Outcome((*failures, *asked.failures), {**facts, **asked.facts}, {**seconds, **asked.seconds})

    def _copy(self, store: RunStore, plan: RunPlan, pair: Pair, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """The recorded outputs of one benchmark become replies."""

        def load() -> Worker:
            engine = RecordedEngine(plan.models[pair.model], self._recorded[pair])
            return Worker(store, plan, pair.model, ENGINE, engine)

        return Pool(InProcessLauncher(ENGINE, lambda model: load), plan, jobs, progress, tries=1).run()


def _whole(jobs: Sequence[Job]) -> list[Job]:
    """One job a subset: slices are for balance between workers, and each reads the subset's replies."""
    joined: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda j: j.start):
        first = joined.setdefault(job.subset, job)
        joined[job.subset] = replace(first, stop=max(first.stop, job.stop))
    return list(joined.values())
