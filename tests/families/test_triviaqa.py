"""TriviaQA: prompts, clean-up of answers and golds, substring matching."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import BenchmarkHandle, load_benchmark
from tests.families.qa_code import read_rows, write_rows, wrong_extractions, wrong_scores
from tests.golden import check_golden, golden_lines

CONFIGS = ["triviaqa_wiki_1shot_gen_20a989", "triviaqa_wiki_1shot_gen_eaf81e"]
BASE, CHAT = CONFIGS


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """The made-up rows in the hub's layout."""
    source = shared / "golden" / "synthetic_rows" / "triviaqa"
    target = tmp_path / "mandarjoshi/trivia_qa/rc.wikipedia.nocontext"
    train, scored = (read_rows(source / f"triviaqa-{split}.jsonl") for split in ("train", "validation"))
    write_rows(
        target / "train.jsonl",
        [{"question": r["question"], "answer": {"value": r["answer"], "aliases": ["other"]}} for r in train],
    )
    write_rows(
        target / "validation.jsonl",
        [{"question": r["question"], "answer": {"value": "other", "aliases": r["answer"]}} for r in scored],
    )
    return tmp_path


@pytest.fixture
def sampled() -> BenchmarkHandle:
    return load_benchmark(BASE, "samples")


@pytest.mark.parametrize("config", CONFIGS)
def test_prompts_equal_the_reference(shared: Path, root: Path, config: str) -> None:
    handle = load_benchmark(config, root)
    assert check_golden(handle, golden_lines(shared, config), lambda name: "triviaqa") == 6


@pytest.mark.parametrize(("config", "extractions", "scores"), [(BASE, 27, 6), (CHAT, 21, 13)])
def test_vectors(shared: Path, config: str, extractions: int, scores: int) -> None:
    handle = load_benchmark(config, shared / "data")
    assert wrong_extractions(shared, handle) == (extractions, [])
    assert wrong_scores(shared, handle) == (scores, [])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\n\n Lima \n Quito", "lima"),
        ("The answer is Lima, the answer is Quito", "quito"),
        ("pizza: Naples", "naples"),  # ends in "a:"
        ("Answer: a: Lima", "lima"),
        ("Dr. No", "dr"),
        ("3,000", "3"),
        ("A man, a plan", "man"),
        ("Theodore and the Anthill", "theodore and anthill"),
        ("100。5", "1005"),  # only ASCII marks end the clause
        ("snake_case", "snake_case"),
    ],
)
def test_answers(sampled: BenchmarkHandle, text: str, answer: str) -> None:
    assert sampled.extract(text) == answer


def test_matching(sampled: BenchmarkHandle) -> None:
    def score(text: str, *golds: str) -> float:
        return float(sampled.score([text], [list(golds)])["score"])

    assert score("in Newark", "New", "other") == 100.0
    assert score("Ne", "New") == 0.0
    assert score("", "the") == 100.0
    assert score("") == 0.0
    assert score("ÉCLAIR", "éclair") == 100.0
    assert sampled.score(["Lima", "x", ""], [["Lima"], ["Lima"], ["Lima"]]) == {"score": pytest.approx(100 / 3)}


@pytest.mark.parametrize("config", CONFIGS)
def test_samples_render_and_score(config: str) -> None:
    handle = load_benchmark(config, "samples")
    samples = handle.samples()
    assert len(samples) == 8
    prompt = handle.render(samples[0], "base")
    assert isinstance(prompt, str)
    assert prompt.startswith("Q: Which metal does a brass founder melt together with zinc?\nA: Copper.\n\nQ: What do")
    assert handle.benchmark.gen.stop == ("Q:", "\n")
    golds = [s.gold for s in samples]
    assert handle.score([f"It is {gold[0]}" for gold in golds], golds) == {"score": 100.0}
    assert handle.score(["no idea"] * 8, golds) == {"score": 0.0}


@pytest.mark.parametrize(("config", "family", "kind"), [(BASE, "triviaqa", "base"), (CHAT, "triviaqa", "chat")])
def test_defaults_of_the_family(config: str, family: str, kind: str) -> None:
    assert load_benchmark(family, "samples", kind=kind).name == config  # type: ignore[arg-type]
