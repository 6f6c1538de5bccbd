"""A lasting interpreter: state, output, failures, interruption, confinement, its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.sandbox import Interpreter
from evalkit.sandbox.interpreter import OUTPUT_BYTES
from tests.sandbox.hostile import below


@pytest.fixture
def session() -> Iterator[Interpreter]:
    before = set(below(os.getpid()))
    with Interpreter() as made:
        yield made
    assert set(below(os.getpid())) <= before


def test_variables_files_and_values_last(session: Interpreter) -> None:
    assert session.run("x = 20\nopen('f', 'w').write('kept')").output == "4\n"
    assert session.run("def f(y): return x + y").output == ""
    found = session.run("print('seen'); f(1)")
    assert (found.failure, found.output, found.alive) == ("passed", "seen\n21\n", True)
    assert session.run("open('f').read()").output == "'kept'\n"


def test_a_failing_cell_leaves_the_rest(session: Interpreter) -> None:
    session.run("x = 1")
    broken = session.run("print('before')\nx / 0")
    assert (broken.failure, broken.output, broken.alive) == ("runtime_error", "before\n", True)
    assert broken.error.rstrip().endswith("ZeroDivisionError: division by zero")
    assert 'File "<cell>", line 2' in broken.error
    assert [session.run(c).failure for c in ("x =", "import no_such_module", "assert x == 2", "x")] == [
        "syntax_error", "import_missing", "wrong_answer", "passed",
    ]  # fmt: skip


def test_a_cell_out_of_time_is_interrupted(session: Interpreter) -> None:
    session.run("x = 1")
    late = session.run("while True: x += 1", timeout=0.3)
    assert (late.failure, late.alive) == ("timeout", True)
    assert session.run("x > 1000").output == "True\n"
    deaf = session.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", timeout=0.3)
    assert (deaf.failure, deaf.alive, deaf.error) == ("timeout", False, "out of time")
    assert session.run("1").failure == "killed"


def test_a_crash_ends_it_and_says_so(session: Interpreter) -> None:
    crashed = session.run("print('last words', flush=True)\nimport os\nos._exit(3)")
    assert (crashed.failure, crashed.output, crashed.alive) == ("killed", "last words\n", False)
    assert crashed.error == "the interpreter ended (exit status 3)"


def test_a_flood_of_output_is_cut(session: Interpreter) -> None:
    flood = session.run(f"print('x' * {3 * OUTPUT_BYTES})\n1")
    assert flood.truncated and len(flood.output) == OUTPUT_BYTES
    assert not session.run("1").truncated


def test_it_is_confined(session: Interpreter) -> None:
    acts = (
        "open('/etc/passwd')",
        f"open({str(Path(__file__))!r})",
        "import socket\nsocket.socket()",
        "import os\nos.fork()",
    )
    assert {session.run(act).failure for act in acts} == {"runtime_error"}
    assert session.run("import os\nprint(os.environ.get('HOME'))").output == "/nonexistent\n"
