"""What programs may hold on a disk, where a file system of their own can be mounted and where not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.sandbox import run_programs
from evalkit.sandbox.guest.folder import FOLDER_BYTES, FOLDER_ENTRIES, Folder
from evalkit.sandbox.records import Program
from tests.sandbox import hostile
from tests.sandbox.backends import backend_or_skip
from tests.sandbox.test_programs import AMPLE

REPOSITORY = Path(__file__).resolve().parents[2]
HOGS = (
    "many files", "many empty files", "deleted open files", "files below a path that is too long",
    "mapped deleted files", "privately mapped deleted files", "files in a folder that cannot be listed",
    "room that is reserved", "files that are moved about",
)  # fmt: skip
KILLED = f"more than {FOLDER_BYTES >> 20} MiB or too many files"
GOOD = """
def f():
    for n in range(20):
        with open('good', 'wb') as file: file.write(bytes(1 << 20))
    return 'good'
"""
SCRIPT = """
import json, sys
from evalkit.sandbox import Backend, run_programs
from evalkit.sandbox.guest import confine
from evalkit.sandbox.records import Program
assert not confine.mount_own({folder!r}, 1 << 20, 10), "a file system can be mounted here"
programs = [Program(*program) for program in json.loads(sys.stdin.read())]
outcomes = run_programs(programs, {workers}, Backend("landlock", True))
print(json.dumps([[o.failure, o.message] for o in outcomes]))
"""


def hogs() -> list[Program]:
    """Programs that hold too much, and go on until they are ended."""
    sources = [hostile.ESCAPES[name].replace("time.sleep(0.2)", "time.sleep(600)") for name in HOGS]
    return [Program(source, AMPLE, 1024, tests=hostile.ESCAPE_TESTS) for source in sources]


def without_mounts(folder: Path, megabytes: int, programs: list[Program], workers: int) -> list[list[str]]:
    """Outcomes (class and message) under Landlock on a small disk, where no process may mount anything."""
    backend_or_skip("landlock")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("no bwrap to make a small disk with")
    inside = [
        bwrap, "--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--cap-drop", "ALL",
        "--size", str(megabytes << 20), "--tmpfs", str(folder), "--setenv", "TMPDIR", str(folder), "--chdir", "/",
        "--setenv", "PYTHONPATH", str(REPOSITORY), "--",
    ]  # fmt: skip
    script = SCRIPT.format(folder=str(folder), workers=workers)
    texts = json.dumps([[p.source, p.timeout, p.memory_mb, p.tests] for p in programs])
    done = subprocess.run(
        [*inside, sys.executable, "-c", script], input=texts, capture_output=True, text=True, check=False
    )
    if "--disable-userns" in done.stderr or "a file system can be mounted here" in done.stderr:
        pytest.skip(f"bwrap cannot take the right to mount away: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", ["bubblewrap", "bubblewrap alone", "landlock"])
def test_a_program_that_holds_too_much_is_ended(name: str) -> None:
    outcomes = run_programs(hogs(), 2, backend_or_skip(name))
    assert {n: (o.failure, o.message) for n, o in zip(HOGS, outcomes, strict=True)} == dict.fromkeys(
        HOGS, ("killed", KILLED)
    )


def test_so_it_is_where_nothing_can_be_mounted(tmp_path: Path) -> None:
    outcomes = without_mounts(tmp_path, 1000, hogs(), 2)
    assert dict(zip(HOGS, outcomes, strict=True)) == {name: ["killed", KILLED] for name in HOGS}


def test_right_programs_beside_them_on_a_small_disk_are_not_wrong(tmp_path: Path) -> None:
    good = Program(GOOD, AMPLE, 1024, tests="assert f() == 'good'")
    bad = hogs()[:3]
    mixed = [program for hog in bad for program in (hog, good, good, good)]
    classes = [failure for failure, _ in without_mounts(tmp_path, 90, mixed, 3)]
    assert [c for n, c in enumerate(classes) if n % 4] == ["passed"] * 9
    assert set(classes[::4]) <= {"killed", "harness_error"}


def test_what_was_judged_on_a_full_disk_is_no_verdict(tmp_path: Path) -> None:
    outcomes = without_mounts(tmp_path, 6, [Program("def f(): return 1", AMPLE, tests="assert f() == 2")] * 2, 2)
    assert outcomes == [["harness_error", "not judged: the disk was full"]] * 2


def test_files_are_counted_wherever_they_lie(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path), counted=False)
    pid = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "large").write_bytes(bytes(FOLDER_BYTES - (1 << 20)))
        assert not folder.overfull(pid.pid)
        (tmp_path / "small").write_bytes(bytes(2 << 20))
        assert folder.overfull(pid.pid)
        folder.wipe()
        assert not list(tmp_path.iterdir())
        for n in range(FOLDER_ENTRIES):
            (tmp_path / str(n)).touch()
        assert not folder.overfull(pid.pid)
        (tmp_path / "one more").touch()
        assert folder.overfull(pid.pid)
    finally:
        pid.communicate(b"\n")
