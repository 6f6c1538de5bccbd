"""The published commands, all at once: every row of the two published tables is filled."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.core.errors import DataError
from evalkit.core.records import Kind
from tests import helpers

BASE = [
    "mmlu_ppl_ac766d",
    "cmmlu_ppl_041cbf",
    "ceval_internal_ppl_93e5ce",
    "GaokaoBench_no_subjective_gen_d21e37",
    "triviaqa_wiki_1shot_gen_20a989",
    "nq_open_1shot_gen_20a989",
    "race_ppl_abed12",
    "winogrande_5shot_ll_252f01",
    "hellaswag_10shot_ppl_59c85e",
    "bbh_gen_98fba6",
    "gsm8k_gen_17d0dc",
    "math_4shot_base_gen_db136b",
    "TheoremQA_5shot_gen_6f0af8",
    "deprecated_humaneval_gen_d2537e",
    "sanitized_mbpp_gen_742f0c",
    "lcbench_gen_5ff288",
    "gpqa_ppl_6bf57a",
]
CHAT = [
    "mmlu_gen_4d595a",
    "cmmlu_gen_c13365",
    "ceval_internal_gen_2daf24",
    "GaokaoBench_no_subjective_gen_4c31db",
    "triviaqa_wiki_1shot_gen_eaf81e",
    "nq_open_1shot_gen_01cf41",
    "race_gen_69ee4f",
    "winogrande_5shot_gen_b36770",
    "hellaswag_10shot_gen_e42710",
    "bbh_gen_5b92b0",
    "gsm8k_gen_1d7fe4",
    "math_0shot_gen_393424",
    "TheoremQA_5shot_gen_6f0af8",
    "humaneval_gen_8e312c",
    "sanitized_mbpp_mdblock_gen_a447ff",
    "lcbench_gen_5ff288",
    "gpqa_gen_4baadb",
    "IFEval_gen_3321a3",
]
COMMANDS = [("base", BASE), ("chat", CHAT)]
COUNTS = {
    "mmlu": 14042, "cmmlu": 11582, "gsm8k": 1319, "bbh": 6511, "math": 5000, "mbpp": 257, "TheoremQA": 800,
    "humaneval": 164, "IFEval": 541,
}  # fmt: skip


def with_subsets(config: str, root: str | Path) -> str:
    """The config, cut to the subsets whose rows the data root has."""
    handle = load_benchmark(config, root)
    found = []
    for member in handle.benchmark.members:
        try:
            load_benchmark(f"{config}:{member.name}", root).task.check()
            found.append(member.name)
        except DataError:
            continue
    assert found, f"{config}: no rows at all"
    return config if len(found) == len(handle.benchmark.members) else f"{config}:{','.join(found)}"


def published_rows(kind: str) -> list[str]:
    with (helpers.ROOT / "summarizers" / "reference" / f"internlm2_{kind}.csv").open(encoding="utf-8") as handle:
        return [line[0] for line in csv.reader(handle)][1:]


def filled(done: subprocess.CompletedProcess[str], work: Path, model: str, kind: str) -> dict[str, float]:
    """The table's values; every published row must have one."""
    assert done.returncode == 0, done.stdout + done.stderr
    with (helpers.run_folder(work) / "report" / "summary.csv").open(encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    assert [line["dataset"] for line in table] == published_rows(kind)
    return {line["dataset"]: float(line[model]) for line in table}


@pytest.mark.parametrize(("kind", "configs"), COMMANDS)
def test_all_commands_on_the_projects_own_rows(tmp_path: Path, kind: Kind, configs: list[str]) -> None:
    helpers.fake_model(tmp_path / "configs", "fake", kind=kind)
    datasets = [with_subsets(config, "samples") for config in configs]
    done = helpers.run(
        "--models", "fake", "--datasets", *datasets, "--config-dir", tmp_path / "configs", "--data-root", "samples",
        "--work-dir", tmp_path / "work", "--summarizer", f"internlm2_{kind}", "--allow-code",
    )  # fmt: skip
    assert len(filled(done, tmp_path / "work", "fake", kind)) == len(configs)


def full_root(shared: Path, root: Path) -> Path:
    """All real rows there are; made-up ones for the benchmarks whose rows are not at hand."""
    samples = helpers.ROOT / "evalkit" / "samples"
    shutil.copytree(samples, root, ignore=shutil.ignore_patterns("SAMPLE_DATA", "README.md"))
    for real in (shared / "data").glob("*/*"):
        target = root / real.parent.name / real.name
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        target.parent.mkdir(exist_ok=True)
        if real.name == "nq_open":
            shutil.copytree(real, target)
        else:
            target.symlink_to(real)
    rows = (shared / "golden" / "synthetic_rows" / "nq-open-train.jsonl").read_text(encoding="utf-8")
    (next((root / "google-research-datasets" / "nq_open").rglob("validation*")).parent / "train.jsonl").write_text(rows)
    return root


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("kind", "configs"), COMMANDS)
def test_all_commands_with_a_real_model(
    tmp_path: Path, shared: Path, tiny_model: Path, tiny_chat_model: Path, kind: Kind, configs: list[str]
) -> None:
    """The 35 published commands, four rows of every subset. Minutes: `pytest -m slow tests/families`."""
    root = full_root(shared, tmp_path / "root")
    model = tiny_model if kind == "base" else tiny_chat_model
    datasets = [with_subsets(config, root) for config in configs]
    done = helpers.run(
        "--hf-path", model, "--datasets", *datasets, "--data-root", root, "--limit", 4, "--allow-code",
        "--set", "gen.max_out_len=16", "--work-dir", tmp_path / "work", "--summarizer", f"internlm2_{kind}",
        "--tokenizer", model, timeout=2900,
    )  # fmt: skip
    values = filled(done, tmp_path / "work", model.name, kind)
    print(json.dumps(values, indent=1))


@pytest.mark.parametrize(("kind", "configs"), COMMANDS)
def test_item_counts_of_the_full_data(shared: Path, kind: Kind, configs: list[str]) -> None:
    for config in configs:
        handle = load_benchmark(config, shared / "data", kind=kind)
        if handle.benchmark.row in COUNTS:
            assert len(handle.samples()) == COUNTS[handle.benchmark.row], config
