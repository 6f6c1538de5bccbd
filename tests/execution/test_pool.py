"""The one life of workers, whoever starts them: limits, models that cannot be loaded, engines that failed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit import session
from evalkit.core.errors import DeviceError, StoreError
from evalkit.core.records import Job, Reply, Request
from evalkit.engines.fake import FakeEngine
from evalkit.execution import events, slurm
from evalkit.execution.debug import DebugRunner
from evalkit.execution.in_process import InProcessLauncher
from evalkit.execution.pending import write_samples
from evalkit.execution.pool import Pool
from evalkit.execution.runner import Limits, Outcome
from evalkit.execution.worker import Worker
from evalkit.plan.jobs import make_jobs
from evalkit.plan.manifest import to_manifest
from evalkit.plan.options import RunOptions
from evalkit.plan.plan import Planned, make_plan
from evalkit.results.store import RunStore, create_run
from evalkit.scoring.score import Options
from tests import helpers


def planned_run(tmp_path: Path, models: Mapping[str, Mapping[str, Any]], *datasets: str) -> tuple[Planned, RunStore]:
    """A plan of fake models over the sample rows, and a new run of it."""
    for name, options in models.items():
        helpers.fake_model(tmp_path / "configs", name, **options)
    config_dirs = (str(tmp_path / "configs"),)
    planned = make_plan(
        RunOptions(tuple(models), datasets or (helpers.MMLU,), data_root="samples", config_dirs=config_dirs)
    )
    return planned, create_run(tmp_path / "work", to_manifest(planned.plan, []))


def unanswered(store: RunStore, jobs: Sequence[Job]) -> list[Job]:
    """Jobs whose subset has not one reply a label and sample of theirs."""
    return [
        job for job in jobs if len(store.replies(job.model, job.benchmark, job.subset)) < 4 * (job.stop - job.start)
    ]


EVENTS = [
    events.Alive(),
    events.Ready(0.5, {"device": "cpu"}),
    events.LoadFailed("ModelError", "no weights", "look"),
    events.JobProgress(3, 1, 2),
    events.JobDone(3, 8, 0.25, 1, "no answer"),
    events.JobDone(3, 8, 0.25, peak_memory=1 << 33),
    events.JobFailed(3, "MemoryError", "out of memory", "smaller", worker_ends=True),
    events.ReplyMade(3, "s/1", "A", Reply("k", text="\ud800 \u2028 ü", n_tokens=4)),
    events.RequestIndexed(3, {"sample": "s/1", "keys": {"A": "k"}}),
    events.Ended(),
]


def test_every_kind_of_event_travels_as_one_line_and_comes_back_equal() -> None:
    assert {type(event) for event in EVENTS} == set(events.KINDS.values())
    for event in EVENTS:
        line = events.encode(event)
        assert line.isascii() and line.count("\n") == 1 and line.endswith("\n")
        assert events.decode(line) == events.decode(line.encode()) == event


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "{}", '{"event": "alive", "x": 1}', '{"event": "none"}', '{"event": "done"}']
)
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no event of a worker"):
        events.decode(line)


class FailingEngine(FakeEngine):
    """Fails at its first job; asked again, it would answer nonsense."""

    def __init__(self, spec: Any, error: Exception | None) -> None:
        super().__init__(spec)
        self.error, self.calls, self.closed = error, 0, False

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        self.calls += 1
        assert not self.closed, "a closed engine is used"
        if self.error:
            raise self.error
        yield from super().run(requests)

    def close(self) -> None:
        self.closed = True
        raise RuntimeError("the device is lost")  # must not end the command


@pytest.mark.parametrize("error", [MemoryError(), DeviceError("cuda:0 failed: an illegal memory access")])
def test_an_engine_that_cannot_go_on_is_not_used_again(error: Exception, tmp_path: Path) -> None:
    planned, store = planned_run(tmp_path, {"m": {}})
    engines: list[FailingEngine] = []

    def load() -> Worker:
        engines.append(FailingEngine(planned.plan.models["m"], None if engines else error))
        return Worker(store, planned.plan, "m", "here", engines[-1])

    jobs = make_jobs(planned)
    launcher = InProcessLauncher("here", lambda model: load)
    outcome = Pool(launcher, planned.plan, jobs, lambda job, share: None, tries=1).run()
    assert outcome.failures == () and unanswered(store, jobs) == []
    assert [engine.calls for engine in engines] == [1, len(jobs) + 1] and all(engine.closed for engine in engines)


class CountingEngine(FakeEngine):
    """Takes more memory with every reply."""

    taken = 100

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for reply in super().run(requests):
            self.taken += 1
            yield reply

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "peak_memory": self.taken}


def test_the_peak_of_memory_is_that_of_the_jobs(tmp_path: Path) -> None:
    """Not that of loading, after which the other facts are told."""
    planned, store = planned_run(tmp_path, {"m": {}})
    jobs = make_jobs(planned)
    engine = CountingEngine(planned.plan.models["m"])
    launcher = InProcessLauncher("here", lambda model: lambda: Worker(store, planned.plan, "m", "here", engine))
    outcome = Pool(launcher, planned.plan, jobs, lambda job, share: None).run()
    asked = sum(4 * (job.stop - job.start) for job in jobs)
    assert outcome.facts["m"] == {**engine.describe(), "peak_memory": 100 + asked}


def test_a_model_that_cannot_be_loaded_does_not_end_the_others(tmp_path: Path) -> None:
    """In this process as in a worker: whatever its load raises."""
    planned, store = planned_run(tmp_path, {"bad": {}, "good": {}})
    jobs = make_jobs(planned)
    manifest = store.manifest()
    manifest["models"]["bad"]["resolved"]["options"] = {"no_such_option": 1}
    store.write_manifest(manifest)
    outcome = DebugRunner().run(store, planned.plan, jobs, lambda job, share: None)
    assert {failure.job.model for failure in outcome.failures} == {"bad"} and len(outcome.failures) == len(jobs) / 2
    assert all("no_such_option" in failure.cause for failure in outcome.failures)
    assert unanswered(store, [job for job in jobs if job.model == "good"]) == []


def test_results_that_cannot_be_written_end_the_command(tmp_path: Path) -> None:
    planned, store = planned_run(tmp_path, {"m": {}})
    (store.folder / "replies").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write"):
        DebugRunner().run(store, planned.plan, make_jobs(planned), lambda job, share: None)


def test_the_progress_of_a_run_in_this_process_is_seen_and_ends(tmp_path: Path) -> None:
    planned, store = planned_run(tmp_path, {"m": {"fail_on": "astronomy"}})
    shares: dict[int, float] = {}
    outcome = DebugRunner().run(
        store, planned.plan, make_jobs(planned), lambda job, share: shares.update({job.id: share})
    )
    failed = {failure.job.id for failure in outcome.failures}
    assert failed and set(outcome.seconds).isdisjoint(failed) and all(shares[i] == 1.0 for i in failed)
    assert all(shares[job_id] == 1.0 for job_id in outcome.seconds)


class FakeCluster:
    """Runs the elements of arrays as processes of this machine, and notes how many there were at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.arrays, self.most = folder, 0, 0
        self.elements: list[FakeElement] = []

    def submit_array(self, slices: Sequence[slurm.Slice]) -> list[FakeElement]:
        """As submitit does."""
        self.arrays += 1
        new = [FakeElement(self.folder, f"{self.arrays}_{k}", part) for k, part in enumerate(slices)]
        self.elements += new
        self.most = max(self.most, sum(not element.known_to_have_ended() for element in self.elements))
        return new

    def states(self, arrays: object) -> dict[str, str]:
        """As squeue says."""
        return {e.job_id: "RUNNING" for e in self.elements if e.process.poll() is None}


class FakeElement:
    """An element as submitit shows it."""

    class Paths:
        stderr = Path("its log")

    paths = Paths()

    def __init__(self, folder: Path, job_id: str, part: slurm.Slice) -> None:
        self.job_id, self.events = job_id, RunStore(Path(part.folder)).events_path(part.worker_id)
        file = folder / f"{job_id}.pickle"
        file.write_bytes(pickle.dumps(part))
        code = "import pickle, sys; sys.exit(pickle.load(open(sys.argv[1], 'rb'))())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=helpers.ROOT, env=helpers.environment(PYTHONPATH=str(helpers.ROOT)),
        )  # fmt: skip

    def known_to_have_ended(self) -> bool:
        """Whether its process is over, or its last event is there."""
        lines = self.events.read_text().splitlines() if self.events.exists() else []
        return self.process.poll() is not None or json.dumps({"event": "ended"}) in lines

    def cancel(self, check: bool = True) -> None:
        """As scancel does."""
        self.process.kill()


def run_on(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, planned: Planned, store: RunStore) -> Outcome:
    """Run everything in at most two elements at a time."""
    launcher = slurm.SlurmLauncher(store, Limits(2), slurm.SlurmOptions())
    monkeypatch.setattr(launcher, "submitter", lambda model: cluster)
    monkeypatch.setattr(slurm, "element_states", cluster.states)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(slurm, "SQUEUE_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.2)
    try:
        return Pool(launcher, planned.plan, make_jobs(planned), lambda job, share: None, 60).run()
    finally:
        for element in cluster.elements:
            element.process.kill()
            element.process.wait()


@pytest.mark.parametrize("fault", ["fail_on", "crash_on"])
def test_elements_of_slurm_are_never_more_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Also where a job fails, or takes its element with it, and is given to new ones while others run."""
    planned, store = planned_run(tmp_path, {"m": {fault: "astronomy", "seconds": 0.01}, "n": {"seconds": 0.01}})
    cluster = FakeCluster(tmp_path)
    outcome = run_on(cluster, monkeypatch, planned, store)
    assert cluster.arrays > 2 and cluster.most <= 2
    failed = {(failure.job.model, failure.job.subset) for failure in outcome.failures}
    assert failed == {("m", "astronomy")}
    jobs = make_jobs(planned)
    assert unanswered(store, [job for job in jobs if (job.model, job.subset) not in failed]) == []


def test_worker_processes_that_die_while_they_load_are_given_up_soon(tmp_path: Path) -> None:
    """After two starts, and the other model goes on."""
    planned, store = planned_run(tmp_path, {"bad": {}, "good": {}})
    launcher = DyingLauncher(store, planned)
    jobs = make_jobs(planned)
    outcome = Pool(launcher, planned.plan, jobs, lambda job, share: None, 60).run()
    assert launcher.starts == ["bad", "bad", "good"]
    assert {failure.job.model for failure in outcome.failures} == {"bad"}
    assert all(failure.cause == "while loading the model: the worker ended early" for failure in outcome.failures)
    assert unanswered(store, [job for job in jobs if job.model == "good"]) == []


class DyingLauncher(InProcessLauncher):
    """Workers of the model `bad` end without a word."""

    def __init__(self, store: RunStore, planned: Planned) -> None:
        plan = planned.plan
        super().__init__("here", lambda m: lambda: Worker(store, plan, m, "here", FakeEngine(plan.models[m])))
        self.starts: list[str] = []

    def start(self, model: Any, count: int, queue: Any) -> Any:
        self.starts.append(model.name)
        workers = super().start(model, count, queue)
        if model.name == "bad":
            for worker in workers:
                worker.close()
        return workers


def test_what_scoring_stumbles_over_marks_its_subset_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, store = planned_run(tmp_path, {"m": {}}, f"{helpers.MMLU}", "gsm8k_gen_17d0dc")
    DebugRunner().run(store, planned.plan, make_jobs(planned), lambda job, share: None)
    write_samples(planned.plan, planned.runnable, store, set())
    score_subset = session.score_subset

    def stumbling(benchmark: Any, subset: str, *more: Any) -> Any:
        if subset == "astronomy":
            raise TypeError("float() argument must be a string or a real number, not 'dict'")
        return score_subset(benchmark, subset, *more)

    monkeypatch.setattr(session, "score_subset", stumbling)
    finished = session.score_run(store, Options(), planned)
    by_row = {score.row: score for score in finished.scores}
    assert by_row["mmlu"].value is None and by_row["mmlu-astronomy"].value is None and not finished.complete
    assert "astronomy cannot be scored: TypeError: float()" in by_row["mmlu-astronomy"].flag
    assert by_row["mmlu-anatomy"].value is not None and by_row["gsm8k"].n == 16
    assert "Traceback" in (store.folder / "logs" / "scoring.log").read_text() and "cannot be scored" in finished.text
