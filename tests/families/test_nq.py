"""Natural Questions: prompts, clean-up of answers and golds, substring matching."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import BenchmarkHandle, load_benchmark
from evalkit.core.errors import DataError
from tests.families.qa_code import read_rows, write_rows, wrong_extractions, wrong_scores
from tests.golden import check_golden, golden_lines

CONFIGS = ["nq_open_1shot_gen_20a989", "nq_open_1shot_gen_01cf41"]
BASE, CHAT = CONFIGS
FOLDER = "google-research-datasets/nq_open/nq_open"


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """The real questions beside the train rows that the shared data lacks."""
    write_rows(tmp_path / FOLDER / "train.jsonl", read_rows(shared / "golden/synthetic_rows/nq-open-train.jsonl"))
    for file in (shared / "data" / FOLDER).glob("validation-*"):
        (tmp_path / FOLDER / file.name).symlink_to(file)
    return tmp_path


@pytest.fixture
def sampled() -> BenchmarkHandle:
    return load_benchmark(BASE, "samples")


@pytest.mark.parametrize("config", CONFIGS)
def test_prompts_equal_the_reference(shared: Path, root: Path, config: str) -> None:
    handle = load_benchmark(config, root)
    assert check_golden(handle, golden_lines(shared, config), lambda name: "nq") == 8


def test_full_item_count(shared: Path) -> None:
    assert len(load_benchmark("nq", shared / "data").samples()) == 3610


def test_an_absent_train_split_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (root / FOLDER / "train.jsonl").unlink()
    handle = load_benchmark(BASE, root)
    with pytest.raises(DataError, match="nq_open, split train.*") as caught:
        handle.render(handle.samples(limit=1)[0], "base")
    assert "fetch" in caught.value.hint
    assert "train split" in handle.benchmark.notes


@pytest.mark.parametrize(("config", "extractions", "scores"), [(BASE, 26, 12), (CHAT, 22, 7)])
def test_vectors(shared: Path, config: str, extractions: int, scores: int) -> None:
    handle = load_benchmark(config, shared / "data")
    assert wrong_extractions(shared, handle) == (extractions, [])
    assert wrong_scores(shared, handle) == (scores, [])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: Lima", "answer lima"),  # unlike TriviaQA's rule
        ("pizza: Naples", "pizza naples"),
        ("I think the answer is the Nile.", "nile"),
        ("Lima\nThe answer is Quito", "lima"),
    ],
)
def test_answers(sampled: BenchmarkHandle, text: str, answer: str) -> None:
    assert sampled.extract(text) == answer


@pytest.mark.parametrize("config", CONFIGS)
def test_samples_render_and_score(config: str) -> None:
    handle = load_benchmark(config, "samples")
    samples = handle.samples()
    assert len(samples) == 8
    prompt = handle.render(samples[0], "base")
    mark = "" if config == BASE else "?"
    assert prompt == (
        f"Q: what is the loaf of bread that is baked without yeast called{mark}\nA: unleavened bread.\n\n"
        f"Q: what do you call the person who drives a team of sled dogs{mark}\nA:" + ("" if mark else " ")
    )
    golds = [s.gold for s in samples]
    assert handle.score([gold[-1] for gold in golds], golds) == {"score": 100.0}
    assert handle.score(["x"] * 8, golds) == {"score": 0.0}


@pytest.mark.parametrize(("config", "kind"), [(BASE, "base"), (CHAT, "chat")])
def test_defaults_of_the_family(config: str, kind: str) -> None:
    assert load_benchmark("nq", "samples", kind=kind).name == config  # type: ignore[arg-type]
