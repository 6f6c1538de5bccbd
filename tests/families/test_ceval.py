"""C-Eval: prompts, the two splits and their rows, first capital letter (protocol sheet: ceval)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.api import evaluate, load_benchmark
from evalkit.core.errors import DataError
from evalkit.scoring import aggregate
from evalkit.scoring.score import SubsetResult
from tests.families.choice import (
    check_extract_vectors,
    check_sample_rows,
    check_score_vectors,
    put,
    put_rows,
    reference_rows,
)
from tests.golden import check_golden, golden_lines
from tests.helpers import fake_model

BASE, CHAT = "ceval_internal_ppl_93e5ce", "ceval_internal_gen_2daf24"
GOLDEN = {BASE: BASE, CHAT: "ceval_gen_2daf24"}  # the published twin of the chat config
OURS = "law,operating_system"
SIZES = {"stem": 20, "social-science": 10, "humanities": 11, "other": 11, "hard": 8}


@pytest.fixture(scope="session")
def root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference's made-up rows as a data root."""
    folder = tmp_path_factory.mktemp("ceval")
    for file in sorted(reference_rows(shared, "ceval/formal_ceval").rglob("*.csv")):
        split = file.parent.name
        put(folder, f"ceval/ceval-exam/{file.stem.removesuffix('_' + split)}/{split}.csv", file)
    return folder


@pytest.mark.parametrize("config", [BASE, CHAT])
def test_prompts_equal_the_reference(shared: Path, root: Path, config: str) -> None:
    handle = load_benchmark(config, root)
    assert check_golden(handle, golden_lines(shared, GOLDEN[config]), str) == 24


def test_vectors(shared: Path) -> None:
    assert check_extract_vectors(shared, "ceval", CHAT) == 100
    assert check_score_vectors(shared, "ceval", extracted=True) == 12


def test_categories() -> None:
    benchmark = load_benchmark(BASE).benchmark
    assert {g.name: len(g.members) for g in benchmark.groups} == SIZES
    assert len(benchmark.members) == 52
    assert "not comparable with ceval-test" in benchmark.notes


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_sample_rows(config: str, kind: str) -> None:
    handle = check_sample_rows(config, "chat" if kind == "chat" else "base", OURS)
    assert handle.subsets == [
        "ceval-operating_system", "ceval-test-operating_system", "ceval-law", "ceval-test-law",
    ]  # fmt: skip
    assert handle.task.scored == ["ceval-operating_system", "ceval-law"], "the test rows have no answers"


def test_exemplars_are_parted_by_three_newlines_and_five_at_the_end() -> None:
    handle = load_benchmark(BASE, "samples")
    prompts = handle.render(handle.samples("ceval-law")[0])
    assert isinstance(prompts, dict)
    prompt = str(prompts["A"])
    assert prompt.count("\n\n\n以下是") == 5 and prompt.count("\n\n\n\n\n以下是") == 1
    assert prompt.endswith("答案: \nA")


def put_law(root: Path, **answers: str) -> None:
    """Five rows of the subset law in every split, all with one answer."""
    for split, answer in answers.items():
        rows = [{"id": i, "question": "q", **dict.fromkeys("ABCD", "o"), "answer": answer} for i in range(5)]
        put_rows(root, f"ceval/ceval-exam/law/{split}.jsonl", rows)


def test_a_copy_with_test_answers_is_scored_on_both_splits(tmp_path: Path) -> None:
    put_law(tmp_path, dev="A", val="B", test="C")
    assert load_benchmark(f"{BASE}:law", tmp_path).task.scored == ["ceval-law", "ceval-test-law"]


def test_rows_without_any_answer_are_refused(tmp_path: Path) -> None:
    put_law(tmp_path, dev="A", val="", test="")
    task = load_benchmark(f"{BASE}:law", tmp_path).task
    with pytest.raises(DataError, match="no row has a gold answer"):
        assert task.scored


def result(subset: str, accuracy: float) -> SubsetResult:
    return SubsetResult(subset, (), {"accuracy": accuracy}, n=2, n_expected=2, stderr=1.0, truncated=0)


def test_each_split_has_rows_of_its_own(root: Path) -> None:
    benchmark = load_benchmark(BASE, root).benchmark
    accuracies = {f"{p}-{m.name}": float(i) for p in ("ceval", "ceval-test") for i, m in enumerate(benchmark.members)}
    results = {subset: result(subset, value) for subset, value in accuracies.items()}
    rows = aggregate.scores_of("m", benchmark, results, list(results), {})
    found = {r.row: r.value for r in rows}
    naive = sum(range(52)) / 52
    assert found["ceval"] == pytest.approx(naive) and found["ceval-test"] == pytest.approx(naive)
    assert found["ceval-test-stem"] == pytest.approx(sum(range(20)) / 20)
    assert found["ceval-law"] == found["ceval-test-law"] == accuracies["ceval-law"]
    assert [r.row for r in rows if r.level == "headline"] == ["ceval", "ceval-test"]
    assert len([r for r in rows if r.level == "group"]) == 10
    assert not any(r.flag for r in rows)


def test_a_run_scores_val_and_says_what_differs(tmp_path: Path) -> None:
    fake_model(tmp_path, "fake")
    options: dict[str, Any] = {"data_root": "samples", "config_dirs": (str(tmp_path),), "debug": True}
    frame = evaluate("fake", f"{BASE}:{OURS}", work_dir=tmp_path / "out", **options)
    assert frame.attrs["complete"]
    assert list(frame.query("level == 'headline'")["dataset"]) == ["ceval"]
    assert not any(name.startswith("ceval-test") for name in frame["dataset"])
    assert any("ceval-test" in note for note in frame.attrs["notes"])
    assert int(frame["fake:n"].iloc[0]) == 8
