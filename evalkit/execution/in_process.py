"""The worker in this process: for `--debug`, and for recorded outputs, whose copying is not worth a process."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from evalkit.core.records import Job, ModelSpec
from evalkit.execution.dispatch import Dispatch
from evalkit.execution.events import Event
from evalkit.execution.pool import InteractiveHandle, Launcher, WorkerEnd
from evalkit.execution.worker import Worker, serve


class InProcessWorker(InteractiveHandle):
    """Works while it is read: one event at a time, so that progress is seen as it is made."""

    silence_timeout = math.inf

    def __init__(self, worker_id: str, model: str, load: Callable[[], Worker]) -> None:
        super().__init__(worker_id, model)
        self._inbox: deque[Job] = deque()
        self._events = serve(load, self._jobs())

    def send_job(self, job: Job) -> None:
        """See `InteractiveHandle`."""
        self._inbox.append(job)

    def shut_down(self) -> None:
        """See `InteractiveHandle`: without a further job it ends when it is read next."""

    def read(self) -> tuple[Sequence[Event], WorkerEnd | None]:
        """See `WorkerHandle`."""
        for event in self._events:
            return [event], None
        return [], WorkerEnd("the worker ended early", "see the traceback above")

    def close(self) -> None:
        """Stop wherever it is: the replies that are there are written, the engine is closed."""
        self._events.close()

    def _jobs(self) -> Iterator[Job]:
        while self._inbox:
            yield self._inbox.popleft()


class InProcessLauncher(Launcher):
    """One worker at a time, made by `loader(model)`."""

    max_workers = 1

    def __init__(self, worker_id: str, loader: Callable[[str], Callable[[], Worker]]) -> None:
        self._worker_id, self._loader = worker_id, loader

    def capacity(self, model: ModelSpec) -> int:
        """See `Launcher`."""
        return 1

    def start(self, model: ModelSpec, count: int, queue: Dispatch) -> list[InProcessWorker]:
        """See `Launcher`."""
        return [InProcessWorker(self._worker_id, model.name, self._loader(model.name))]

    def wait(self, workers: Sequence[InProcessWorker]) -> None:
        """Its work is done when it is read."""

    def end(self, worker: InProcessWorker) -> None:
        """See `Launcher`."""
        worker.close()
