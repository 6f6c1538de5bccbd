"""No hostile program escapes, passes or leaves anything, as root or as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.sandbox import Backend, run_programs
from evalkit.sandbox.records import Program
from tests.sandbox import hostile
from tests.sandbox.backends import backend_or_skip

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = "65534"


def check(found: dict[str, Any]) -> None:
    """Everything that must hold after the suite."""
    outcomes = found.pop("outcomes")
    classes = {name: failure for name, (failure, _) in outcomes.items()}
    assert len(classes) >= 100
    assert {n for n, c in classes.items() if c in ("passed", "harness_error")} == set()
    # It hangs up at once; its time is over before it is ended, or not, as the machine has time for it.
    assert classes.pop("a silent process") in ("timeout", "killed")
    assert {n for n in hostile.ENDLESS if classes.get(n, "timeout") != "timeout"} == set()
    assert {classes[n] for n in hostile.LEAVINGS} == {"wrong_answer"}
    user = found.pop("user")
    assert found == {
        "canary": "alive", "canary_mode": "0o644", "folder": ["canary"], "connections": 0, "processes": [], "files": [],
        "grown_mib": found["grown_mib"],
    }  # fmt: skip
    assert found["grown_mib"] < 100
    assert user in (os.getuid(), int(NOBODY))


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that no other program writes to, in the system's own: pytest's are closed to other users."""
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        folder.chmod(0o755)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o777)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["bubblewrap", pytest.param("bubblewrap alone", marks=pytest.mark.slow), "landlock"])
def test_as_this_user(name: str, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(own_folder / "tmp"))
    check(hostile.run_all(backend_or_skip(name)))


def ordinary_python(tmp_path: Path) -> list[str]:
    """A command that runs Python as an ordinary user on a copy of the package; skips where none can be run."""
    if os.getuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("no setpriv to become an ordinary user with")
    user = [setpriv, "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*user, "env", "-i", "PATH=/usr/bin:/bin", f"TMPDIR={tmp_path}/tmp", f"PYTHONPATH={tmp_path}", python]
        works = "import sys, evalkit.sandbox; assert sys.version_info >= (3, 10)"
        try:
            if subprocess.run([*command, "-B", "-c", works], cwd="/", capture_output=True, check=False).returncode == 0:
                return command
        except OSError:
            continue
    pytest.skip("an ordinary user can start no Python here that has what the sandbox needs")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bubblewrap", "bubblewrap alone")]


@pytest.mark.parametrize("name", [*SLOW, "landlock"])
def test_as_an_ordinary_user(name: str, own_folder: Path) -> None:
    backend = backend_or_skip(name)
    shutil.copytree(REPOSITORY / "evalkit", own_folder / "evalkit", ignore=shutil.ignore_patterns("__pycache__"))
    (own_folder / "tests/sandbox").mkdir(parents=True)
    for file in ("tests/__init__.py", "tests/sandbox/__init__.py", "tests/sandbox/hostile.py"):
        shutil.copy(REPOSITORY / file, own_folder / file)
    command = [
        *ordinary_python(own_folder),
        "-B",
        "-m",
        "tests.sandbox.hostile",
        backend.name,
        str(int(backend.landlock)),
    ]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["bubblewrap", "bubblewrap alone", "landlock"])
def test_nothing_is_there_for_the_next_program(name: str) -> None:
    leaves = """
import os, posix
for place in ('/tmp', '/dev/shm', '/var/tmp', '/run', '.', '..', os.path.dirname(posix.getcwd()), '/'):
    try: open(place + '/evalkit-left', 'w').write('x')
    except OSError: pass
def f(): return 1
"""
    looks = (
        leaves.split("for ")[0]
        + """
def f():
    places = ('/tmp', '/dev/shm', '/var/tmp', '/run', '.', '..', '/')
    return [p for p in places if os.access(p + '/evalkit-left', os.F_OK)] + posix.listdir('.')
"""
    )
    programs = [Program(leaves, 60.0, tests="assert f() == 1"), Program(looks, 60.0, tests="assert f() == [], f()")]
    outcomes = run_programs(programs, 1, backend_or_skip(name))
    assert [(o.failure, o.message) for o in outcomes] == [("passed", "")] * 2


def test_the_suite_notices_escapes() -> None:
    """Without a sandbox some of the same programs get through; otherwise the suite would prove nothing."""
    names = ("reads /etc/passwd", "TCP to loopback", "reads the project", "namespaces", "writes the canary")
    with hostile.targets() as places:
        wanted = hostile.programs(places)
        free = run_programs([wanted[n] for n in names], 1, Backend("none"))
        written = Path(places["canary"]).read_text()
    through = {n for n, o in zip(names, free, strict=True) if o.status == "passed"}
    assert through >= {"reads /etc/passwd", "TCP to loopback", "reads the project", "writes the canary"}
    assert written == "x"


def test_a_right_program_passes_the_tests_of_the_cheats() -> None:
    right = "def f(x): return {3: 'swordfish-{one}', 4: 'swordfish-{two}'}[x]"
    assert run_programs([Program(right, tests=hostile.SECRET_TESTS)], 1)[0].status == "passed"
