"""`--debug`: the workers in this process, logs and tracebacks on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.core.records import Job
from evalkit.execution.in_process import InProcessLauncher
from evalkit.execution.pool import Pool
from evalkit.execution.runner import Outcome, Progress
from evalkit.execution.worker import loader
from evalkit.plan.plan import RunPlan
from evalkit.results.store import RunStore

WORKER_ID = "debug"


class DebugRunner:
    """Runs the same worker code in this process, where a debugger reaches it."""

    def run(self, store: RunStore, plan: RunPlan, jobs: Sequence[Job], progress: Progress) -> Outcome:
        """See `Runner.run`. The same code would do the same again: a job that fails is split at once."""
        launcher = InProcessLauncher(WORKER_ID, lambda model: loader(lambda: store, model, WORKER_ID))
        return Pool(launcher, plan, jobs, progress, tries=1).run()
