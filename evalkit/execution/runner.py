"""What every runner offers and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from evalkit.core.records import Job
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore

Progress = Callable[[Job, float], None]
"""Called with a job and the share of it that is done."""


@dataclass(frozen=True)
class JobFailure:
    """A job that was given up, and why."""

    job: Job
    cause: str
    hint: str = ""
    log: str = ""


@dataclass(frozen=True)
class Limits:
    """What a runner may use, and how long it waits."""

    max_workers: int | None = None
    """Of all models together. Default: one for each GPU, one without any."""
    stall_seconds: float = 1800.0
    """A worker that makes no progress for so many seconds is replaced; loading the model counts, too."""


@dataclass(frozen=True)
class Outcome:
    """How the jobs ended."""

    failures: tuple[JobFailure, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """model -> what its engine reports about itself."""
    seconds: Mapping[int, float] = field(default_factory=dict)
    """job id -> seconds it took."""


class Runner(Protocol):
    """Assigns jobs to workers until all are done or given up."""

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """Run all jobs; StoreError when results cannot be written. Kills its workers whatever happens."""
        ...
