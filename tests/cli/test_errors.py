"""Bad input ends in one clear message with a hint, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import helpers

GSM8K = ("--datasets", "gsm8k_gen_17d0dc", "--data-root", "samples")


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A user's config folder with a fake model."""
    helpers.fake_model(tmp_path / "configs", "fake")
    (tmp_path / "configs" / "dataset_configs").mkdir()
    return tmp_path / "configs"


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """One message with a hint, no traceback, the exit code."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("error:") == 1, done.stderr
    assert "hint:" in done.stderr
    for part in parts:
        assert part in done.stderr, f"{part!r} not in {done.stderr}"


def attempt(configs: Path, *args: object, work: str = "work") -> subprocess.CompletedProcess[str]:
    return helpers.run("--config-dir", configs, "--work-dir", configs.parent / work, *args)


def dataset(configs: Path, name: str, text: str) -> Path:
    path = configs / "dataset_configs" / f"{name}.yaml"
    path.write_text(text)
    return path


def test_all_unknown_datasets_at_once(configs: Path) -> None:
    done = attempt(configs, "--models", "fake", "--datasets", "mmlu_pl_ac766d", "gsm9k", "gsm8k_gen_17d0dc")
    refused(done, 2, "mmlu_pl_ac766d", "mmlu_ppl_ac766d", "gsm9k", "gsm8k")
    assert not (configs.parent / "work").exists()


def test_all_unknown_models_at_once(configs: Path) -> None:
    refused(attempt(configs, "--models", "fak", "tiny_bas", *GSM8K), 2, "fak (did you mean fake", "tiny_base")


def test_ambiguous_name_lists_candidates(configs: Path) -> None:
    done = attempt(configs, "--models", "fake", "--datasets", "gsm8k_gen")
    refused(done, 2, "ambiguous", "gsm8k_gen_17d0dc", "gsm8k_gen_1d7fe4")


def test_one_name_in_two_files_is_ambiguous(configs: Path) -> None:
    for folder in ("a", "b"):
        (configs / "dataset_configs" / folder).mkdir()
        (configs / "dataset_configs" / folder / "mine_gen.yaml").write_text("base: gsm8k_gen_17d0dc\n")
    done = attempt(configs, "--models", "fake", "--datasets", "mine_gen")
    refused(done, 2, "ambiguous", "a/mine_gen.yaml", "b/mine_gen.yaml")


def test_broken_yaml_names_file_and_line(configs: Path) -> None:
    dataset(configs, "bad_gen", "base: gsm8k_gen_17d0dc\nprompt: [a: b: c]\n")
    refused(attempt(configs, "--models", "fake", "--datasets", "bad_gen"), 2, "bad_gen.yaml:2", "broken YAML")


def test_misspelt_key_names_line_and_near_key(configs: Path) -> None:
    dataset(configs, "bad_gen", "base: gsm8k_gen_17d0dc\nmode: gen\ngen:\n  max_out_length: 5\n")
    refused(
        attempt(configs, "--models", "fake", "--datasets", "bad_gen"),
        2,
        "bad_gen.yaml:4",
        "max_out_length",
        "max_out_len?",
    )


def test_misspelt_key_of_a_model(configs: Path) -> None:
    (configs / "model_configs" / "m.yaml").write_text("path: x\nkind: base\ndtpye: float32\n")
    refused(attempt(configs, "--models", "m", *GSM8K), 2, "m.yaml:3", "dtype?")


def test_undefined_template_field_before_any_model_loads(configs: Path) -> None:
    dataset(configs, "bad_gen", 'base: gsm8k_gen_17d0dc\nprompt:\n  - shots\n  - user: "{{ qestion }}"\n')
    done = attempt(configs, "--models", "fake", "--datasets", "bad_gen", "--data-root", "samples")
    refused(done, 2, "bad_gen.yaml:4", "qestion", "did you mean question")
    dataset(configs, "bad_ppl", 'base: mmlu_ppl_ac766d\nprompt: "{{ shots }}{{ inptu }} {{ option }}"\n')
    done = attempt(configs, "--models", "fake", "--datasets", "bad_ppl", "--data-root", "samples")
    refused(done, 2, "bad_ppl.yaml:2", "inptu", "input?")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("extract: [last_numbre]", "last_number"),
        ("metric: acuracy", "accuracy?"),
        ("quirks: [sequential_field]", "sequential_fields"),
        ("extract: [{last_number: {nothing: x}}]", "nothing"),
    ],
)
def test_unknown_functions_are_named_with_near_matches(configs: Path, text: str, part: str) -> None:
    dataset(configs, "bad_gen", f"base: gsm8k_gen_17d0dc\n{text}\n")
    refused(attempt(configs, "--models", "fake", "--datasets", "bad_gen"), 2, "bad_gen.yaml:2", part)


def test_missing_data_says_where_and_how(configs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = attempt(configs, "--models", "fake", "--datasets", "gsm8k", "--data-root", tmp_path / "empty")
    refused(done, 2, "openai/gsm8k", str(tmp_path / "empty"), "fetch")


def test_missing_exemplars_say_where_and_how(configs: Path, tmp_path: Path) -> None:
    rows = tmp_path / "root" / "openai" / "gsm8k" / "main"
    rows.mkdir(parents=True)
    (rows / "test.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "#### 2"}) + "\n")
    done = attempt(configs, "--models", "fake", "--datasets", "gsm8k", "--data-root", tmp_path / "root")
    refused(done, 2, "fewshot/gsm8k_gen_17d0dc.jsonl", "fetch")


def test_foreign_exemplars_are_refused(configs: Path, tmp_path: Path) -> None:
    rows = tmp_path / "root" / "openai" / "gsm8k" / "main"
    rows.mkdir(parents=True)
    (rows / "test.jsonl").write_text(json.dumps({"question": "1+1?", "answer": "#### 2"}) + "\n")
    (tmp_path / "root" / "fewshot").mkdir()
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] * 4
    (tmp_path / "root" / "fewshot" / "gsm8k_gen_17d0dc.jsonl").write_text("".join(json.dumps(t) + "\n" for t in turns))
    done = attempt(configs, "--models", "fake", "--datasets", "gsm8k", "--data-root", tmp_path / "root")
    refused(done, 2, "not the published one", "shots.sha256")


def test_unreadable_checkpoint_alone_is_refused(configs: Path, tmp_path: Path, tiny_model: Path) -> None:
    broken = broken_copy(tiny_model, tmp_path / "broken")
    done = attempt(configs, "--hf-path", broken, *GSM8K)
    refused(done, 2, "model.safetensors")
    refused(attempt(configs, "--hf-path", tmp_path / "absent", "--kind", "base", *GSM8K), 2, "absent")


def broken_copy(model: Path, target: Path) -> Path:
    """A checkpoint whose weights are cut off."""
    import shutil

    shutil.copytree(model, target)
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return target


def test_failed_model_beside_a_good_one(configs: Path, tmp_path: Path, tiny_model: Path) -> None:
    broken = broken_copy(tiny_model, tmp_path / "broken")
    done = attempt(configs, "--models", "fake", "--hf-path", broken, *GSM8K)
    refused(done, 1, "broken")
    assert "failed" in done.stdout and "broken" in done.stdout and "model.safetensors" in done.stdout
    folder = helpers.run_folder(tmp_path / "work")
    scores = json.loads((folder / "scores" / "scores.json").read_text())["scores"]
    good = next(s for s in scores if s["model"] == "fake")
    assert good["value"] is not None and good["n"] == good["n_expected"] == 16
    assert next(s for s in scores if s["model"] == "broken")["value"] is None


def test_model_that_fails_in_mid_run_keeps_the_rest(configs: Path, tmp_path: Path) -> None:
    helpers.fake_model(configs, "moody", fail_on="astronom")
    datasets = ("--datasets", helpers.MMLU, "gsm8k_gen_17d0dc", "--data-root", "samples")
    done = attempt(configs, "--models", "moody", "fake", *datasets)
    refused(done, 1, "moody")
    assert "fails on 'astronom'" in done.stdout
    scores = json.loads((helpers.run_folder(tmp_path / "work") / "scores" / "scores.json").read_text())["scores"]
    values = {(s["model"], s["row"]): s["value"] for s in scores}
    assert values["moody", "mmlu"] is None and values["moody", "mmlu-astronomy"] is None
    assert values["moody", "gsm8k"] is not None and values["moody", "mmlu-anatomy"] is not None
    assert values["fake", "mmlu"] is not None


def test_worker_killed_for_memory_is_named_and_the_rest_goes_on(configs: Path, tmp_path: Path) -> None:
    helpers.fake_model(configs, "hungry", crash_on="astronom")
    done = attempt(configs, "--models", "hungry", "--datasets", helpers.MMLU, "--data-root", "samples")
    refused(done, 1, "hungry")
    assert "the worker ended with status 9" in done.stdout or "killed" in done.stdout
    scores = json.loads((helpers.run_folder(tmp_path / "work") / "scores" / "scores.json").read_text())["scores"]
    values = {s["row"]: s["value"] for s in scores}
    assert values["mmlu-astronomy"] is None and values["mmlu"] is None
    assert values["mmlu-anatomy"] is not None and values["mmlu-abstract_algebra"] is not None


def test_failed_samples_are_counted_and_flagged(configs: Path, tmp_path: Path) -> None:
    helpers.fake_model(configs, "silent", error_on="baker")
    done = attempt(configs, "--models", "silent", "--datasets", "gsm8k", "--data-root", "samples")
    rows = (helpers.ROOT / "evalkit/builtin/samples/openai/gsm8k/main/test.jsonl").read_text().splitlines()
    missing = sum("baker" in json.loads(line)["question"] for line in rows)
    assert 0 < missing < 16, "the sample rows changed: choose another word"
    refused(done, 1, "incomplete")
    assert f"({16 - missing}/16)" in done.stdout and "has no answer to 'baker'" in done.stdout


def test_code_is_run_only_when_allowed(configs: Path) -> None:
    args = ("--models", "fake", "--datasets", "humaneval", "gsm8k", "--data-root", "samples", "--limit", 2)
    done = attempt(configs, *args)
    refused(done, 1, "--allow-code")
    assert "--allow-code" in done.stdout and "gsm8k" in done.stdout
    assert attempt(configs, *args, "--allow-code").returncode == 0


def test_work_dir_that_cannot_be_written(configs: Path) -> None:
    done = helpers.run("--config-dir", configs, "--work-dir", "/proc/evalkit", "--models", "fake", *GSM8K)
    refused(done, 1, "/proc/evalkit")


def test_json_errors_are_machine_readable(configs: Path) -> None:
    done = attempt(configs, "--models", "nope", *GSM8K, "--json")
    assert done.returncode == 2
    assert set(json.loads(done.stdout)) == {"error", "hint", "exit_code"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, mounted for the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder))
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root; test_store.py has the part that does not")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)


def test_full_disk_loses_nothing_and_the_run_goes_on(configs: Path, small_disk: Path) -> None:
    args = ("--models", "fake", "--datasets", helpers.MMLU, "gsm8k", "--data-root", "samples", "--work-dir", small_disk)
    (small_disk / "ballast").write_bytes(b"x" * (256 * 1024 - 72_000))
    done = helpers.run("--config-dir", configs, *args)
    refused(done, 1, "disk is full", "same command")
    folder = helpers.run_folder(small_disk)
    before = helpers.reply_keys(folder)
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    done = helpers.run("--config-dir", configs, *args)
    assert done.returncode == 0, done.stderr
    after = helpers.reply_keys(helpers.run_folder(small_disk))
    assert set(before) <= set(after) and len(after) == len(set(after)) == 4 * 8 * 4 + 16


def test_read_only_disk_is_said_and_what_is_there_can_be_read(configs: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    args = ("--config-dir", configs, "--models", "fake", *GSM8K, "--work-dir", small_disk)
    assert helpers.run(*args).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(helpers.run(*args), 1, "read-only", "--work-dir")
    refused(helpers.run("score", helpers.run_folder(small_disk)), 1, "read-only")
    standing = helpers.run("status", "--work-dir", small_disk)
    assert standing.returncode == 0 and "complete" in standing.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
def test_worker_killed_twice_is_given_up_with_its_likely_cause(configs: Path, tmp_path: Path) -> None:
    helpers.fake_model(configs, "slow", seconds=0.2)
    work = tmp_path / "work"
    args = ("--config-dir", configs, "--models", "slow", "--datasets", "gsm8k", "--data-root", "samples")
    process = helpers.start(*args, "--work-dir", work)
    killed: set[int] = set()
    while process.poll() is None and len(killed) < 2:
        for pid in (
            set(helpers.processes_of("evalkit.execution.worker")) & set(helpers.processes_of(str(work))) - killed
        ):
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.02)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 1 and "Traceback" not in errors
    assert "killed (SIGKILL), most likely by the system because it ran out of memory" in output
