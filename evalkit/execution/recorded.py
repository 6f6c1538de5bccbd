"""Recorded outputs: answered in this process, in front of the runner that asks models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evalkit.core.records import Job
from evalkit.engines.catalog import entry_of
from evalkit.engines.recorded.engine import ENGINE, Outputs, RecordedEngine
from evalkit.execution.debug import Listener
from evalkit.execution.runner import JobFailure, Outcome, Progress, Runner
from evalkit.execution.worker import Worker, run_guarded
from evalkit.plan.plan import Pair, RunPlan
from evalkit.results.store import RunStore


class RecordedRunner:
    """Runs the jobs of recorded models here, as copying texts is not worth a process, and hands on the others."""

    def __init__(self, recorded: Mapping[Pair, Outputs], runner: Runner) -> None:
        self._recorded = recorded
        self._runner = runner

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`."""
        failures: list[JobFailure] = []
        facts: dict[str, Mapping[str, Any]] = {}
        seconds: dict[int, float] = {}
        for pair, outputs in self._recorded.items():
            own = _whole([j for j in jobs if (j.model, j.benchmark) == (pair.model, pair.benchmark)])
            engine = RecordedEngine(plan.models[pair.model], outputs)
            worker = Worker(store, plan, pair.model, ENGINE, engine)
            facts[pair.model] = {**facts.get(pair.model, {}), pair.benchmark: dict(engine.describe())}
            for job in own:
                if job.subset in outputs.absent:
                    where = plan.models[pair.model].path
                    failures.append(JobFailure(job, "no recorded outputs of the subset", f"add them to {where}"))
                else:
                    run_guarded(worker, job, Listener(job, failures, seconds, progress))
                progress(job, 1.0)
        others = [job for job in jobs if not entry_of(plan.models[job.model]).recorded]
        if not others:
            return Outcome(tuple(failures), facts, seconds)
        asked = self._runner.run(store, plan, others, progress)
        return Outcome((*failures, *asked.failures), {**facts, **asked.facts}, {**seconds, **asked.seconds})


def _whole(jobs: Sequence[Job]) -> list[Job]:
    """One job a subset: slices are for balance between workers, and each reads the subset's replies."""
    joined: dict[str, Job] = {}
    for job in sorted(jobs, key=lambda j: j.start):
        first = joined.setdefault(job.subset, job)
        joined[job.subset] = replace(first, stop=max(first.stop, job.stop))
    return list(joined.values())
