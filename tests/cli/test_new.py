"""A benchmark of one's own out of a file, in one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from tests import helpers

QUIZ = "question,A,B,C,answer\nCapital of Italy?,Paris,Rome,Oslo,B\nCapital of Norway?,Paris,Rome,Oslo,Oslo\n"


@pytest.mark.parametrize("kind", ["gen", "ppl", "ll"])
def test_a_quiz_from_a_csv(tmp_path: Path, kind: str) -> None:
    (tmp_path / "quiz.csv").write_text(QUIZ)
    place = ("--config-dir", tmp_path / "configs")
    done = helpers.run("new", "quiz", "--from", tmp_path / "quiz.csv", "--kind", kind, *place)
    assert done.returncode == 0, done.stderr
    assert "guessed: gold is the column 'answer'" in done.stdout and "the options are A, B, C" in done.stdout
    assert "Capital of Italy?" in done.stdout.partition("the first prompt:")[2]
    handle = load_benchmark(f"quiz_{kind}", config_dirs=[str(tmp_path / "configs")])
    assert [sample.gold for sample in handle.samples()] == ["B", "C"], "a letter, or the option's own text"
    if kind == "gen":
        sample = handle.samples()[0]
        assert handle.extract("It is Rome.", row=sample.row) == "B"
    again = helpers.run("new", "quiz", "--from", tmp_path / "quiz.csv", "--kind", kind, *place)
    assert again.returncode == 2 and "is there already" in again.stderr


def test_numbers_from_jsonl(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text(json.dumps({"q": "What is 2 + 3?", "answer": "5"}) + "\n")
    done = helpers.run("new", "sums", "--from", tmp_path / "sums.jsonl", "--config-dir", tmp_path / "configs")
    assert done.returncode == 0 and "metric: numeric_accuracy" in done.stdout, done.stderr
    handle = load_benchmark("sums_gen", config_dirs=[str(tmp_path / "configs")])
    assert handle.score(["So it is $5.00."], ["5"]) == {"accuracy": 100.0}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", (), "no column is called as right answers usually are"),
        ("q,answer\n1,2\n", ("--gold", "anwser"), "no column 'anwser'"),
        ("q,answer\n1,2\n", ("--kind", "ppl"), "mode ppl needs options"),
        ("q,answer\n", (), "has no rows"),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(tmp_path: Path, text: str, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    done = helpers.run("new", "x", "--from", tmp_path / "x.csv", "--config-dir", tmp_path / "configs", *options)
    assert done.returncode == 2 and message in done.stderr
    assert not list(tmp_path.glob("configs/**/*.yaml"))
