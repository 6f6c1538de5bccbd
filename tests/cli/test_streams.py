"""Standard streams: one JSON document with `--json`, whatever happens; streams that are closed or full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

MMLU = "mmlu_ppl_ac766d:anatomy,astronomy"


@pytest.fixture
def args(tmp_path: Path) -> list[object]:
    """A run of two subsets; the models differ in what goes wrong."""
    configs = tmp_path / "configs"
    helpers.fake_model(configs, "m")
    helpers.fake_model(configs, "failing", fail_on="astronomy")
    helpers.fake_model(configs, "odd", error_on="astronomy")
    helpers.fake_model(configs, "loud", prints="{}")
    helpers.fake_model(configs, "slow", seconds=1.0)
    return ["--datasets", MMLU, "--data-root", "samples", "--config-dir", configs, "--work-dir", tmp_path / "work"]


def document(done: subprocess.CompletedProcess[str], tracebacks: bool = False) -> dict[str, Any]:
    """The one document of a command with `--json`; `tracebacks`: with --debug they are on standard error."""
    assert tracebacks or "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict) and done.stdout.count("\n") == 1
    if "exit_code" in found:
        assert found["exit_code"] == done.returncode
    return found


@pytest.mark.parametrize(
    ("model", "more", "code"),
    [
        ("failing", (), 1),
        ("odd", ("--debug",), 1),
        ("loud", (), 0),
        ("loud", ("--debug",), 0),
        ("failing", ("--mode", "infer"), 1),
        ("failing", ("--mode", "infer", "--debug"), 1),
        ("loud", ("--mode", "infer", "--debug"), 0),
        ("m", ("--mode", "score"), 1),
    ],
)
def test_a_run_prints_one_document(args: list[object], model: str, more: tuple[str, ...], code: int) -> None:
    done = helpers.run("--models", model, *args, *more, "--json")
    found = document(done, "--debug" in more)
    assert done.returncode == code and found["complete"] is (code == 0) and ("error" in found) is (code != 0)
    assert Path(found["run"]).is_dir() and bool(found["scores"]) is ("infer" not in more)
    again = document(helpers.run("score", found["run"], "--json"))
    assert again["run"] == found["run"]


@pytest.mark.parametrize(
    "words",
    [
        ("--models", "nope"),
        ("--nonsense",),
        ("--help",),
        ("--models", "m", "--limit", "x"),
        ("--models", "m", "--summarizer", "nope"),
        ("--models", "m", "--set", "model.dtyp=x"),
    ],
)
def test_a_refusal_is_one_document(args: list[object], words: tuple[str, ...]) -> None:
    done = helpers.run(*words, *args, "--json")
    found = document(done)
    assert ("error" in found) is (done.returncode != 0) and found["exit_code"] == done.returncode


@pytest.mark.parametrize(
    "words",
    [
        ("score", "nope"), ("score", "nope", "--nonsense"), ("score",), ("status", "nope"), ("compare", "a", "b"),
        ("regress", "nope", "--reference", "internlm2_base"), ("list", "nothing"), ("fetch", "x"), ("show", "nope"),
        ("nonsense",),
    ],
)  # fmt: skip
def test_a_refusal_of_a_command_is_one_document(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = helpers.run(*words, "--json", cwd=tmp_path)
    assert done.returncode != 0 and set(document(done)) == {"error", "hint", "exit_code"}


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["workers", "debug"])
def test_an_interrupted_run_is_one_document(args: list[object], tmp_path: Path, debug: tuple[str, ...]) -> None:
    process = helpers.start("--models", "slow", *args, *debug, "--json")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "work").glob("*/replies/**/*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    found = document(subprocess.CompletedProcess([], process.returncode, output, errors))
    assert process.returncode == 130 and found["error"] == "interrupted"


def shell(redirection: str, *args: object) -> subprocess.CompletedProcess[str]:
    """The command under a shell that redirects its streams."""
    line = " ".join(f"'{word}'" for word in helpers.command(*args))
    return subprocess.run(
        ["bash", "-c", f"{line} {redirection}"], capture_output=True, text=True, cwd=helpers.ROOT, timeout=240,
        env=helpers.environment(),
    )  # fmt: skip


needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")


@pytest.mark.parametrize("redirection", ["2>&-", "<&- 2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_a_standard_error_that_takes_nothing_costs_nothing(
    args: list[object], tmp_path: Path, redirection: str
) -> None:
    done = shell(redirection, "--models", "m", *args)
    assert done.returncode == 0 and "mmlu" in done.stdout
    again = shell(redirection, "--models", "m", *args, "--debug", "--json", "--new")
    assert document(again)["complete"] is True


@pytest.mark.parametrize("json_option", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("redirection", [">&-", pytest.param(">/dev/full", marks=needs_full)])
def test_a_standard_output_that_takes_nothing_costs_the_table_alone(
    args: list[object], tmp_path: Path, redirection: str, json_option: tuple[str, ...]
) -> None:
    done = shell(redirection, "--models", "m", *args, *json_option)
    folder = helpers.run_folder(tmp_path / "work")
    assert (folder / "report" / "summary.txt").read_text() and "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr and "Exception ignored" not in done.stderr
    if "full" in redirection:
        assert done.returncode == 1 and "standard output cannot be written" in done.stderr
    else:
        assert done.returncode == 0


def test_a_reader_that_goes_away_is_no_failure_of_the_run(args: list[object], tmp_path: Path) -> None:
    done = shell("| true; exit ${PIPESTATUS[0]}", "--models", "m", *args)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (helpers.run_folder(tmp_path / "work") / "report" / "summary.txt").read_text()


@pytest.mark.parametrize("option", ["--work-dir", "--data-root", "--config-dir", "--hf-path", "--models"])
@pytest.mark.parametrize("bad", ["long", "circle", "file"])
def test_paths_that_cannot_be(args: list[object], tmp_path: Path, option: str, bad: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("")
    path = tmp_path / {"long": "x" * 300, "circle": "circle", "file": "file"}[bad]
    value = f"recorded:{path}" if option == "--models" else path
    models = [] if option == "--models" else ["--models", "m"]
    done = helpers.run(*models, *args, option, value)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and "unexpected" not in done.stderr
    assert "error: " in done.stderr and "hint: " in done.stderr
