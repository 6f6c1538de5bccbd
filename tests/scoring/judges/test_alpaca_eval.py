"""AlpacaEval 2.0: recorded annotations against the leaderboard, the fit against a search, a run with a judge."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy
import pytest

from evalkit.core.errors import DataError
from evalkit.scoring.judges.alpaca import (
    LENGTH_CONTROLLED,
    Preference,
    is_switched,
    preferences,
    results,
)
from evalkit.scoring.judges.length_control import length_controlled
from tests import helpers
from tests.agents.scripted import Messages, Scripted, write_model, write_rows


def test_recorded_annotations_give_the_leaderboards_numbers(shared: Path) -> None:
    file = shared / "recorded/alpaca_eval/claude-2_annotations.jsonl.gz"
    done = helpers.run("alpaca-eval", file, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[str(file)]
    assert round(found["win_rate"], 3) == 17.188 and round(found["standard_error"], 3) == 1.175
    assert math.floor(found["avg_length"]) == 1069 and found["n_total"] == 805
    assert 0 < found[LENGTH_CONTROLLED] < 100


def rows(*values: float | None) -> list[dict[str, object]]:
    return [{"output_1": "ab", "output_2": "abcd", "preference": value} for value in values]


def test_results_by_hand(tmp_path: Path) -> None:
    judged, lengths = preferences(rows(1.0, 2.0, 1.5, 0, 1.25, None, math.nan), "here")
    assert [p.win for p in judged] == [0.0, 1.0, 0.5, 0.5, 0.25] and lengths == [4] * 7
    found = results(judged, lengths)
    assert found["win_rate"] == 45.0 and found["discrete_win_rate"] == 40.0 and found["avg_length"] == 4.0
    assert found["standard_error"] == pytest.approx(100 * numpy.std([0, 1, 0.5, 0.5, 0.25], ddof=1) / math.sqrt(5))
    assert [found[n] for n in ("n_wins", "n_wins_base", "n_draws", "n_total")] == [1, 2, 2, 5]
    assert LENGTH_CONTROLLED not in found, "all lengths are equal"
    write_rows(tmp_path / "a.jsonl", rows(1.0, 2.0))
    table = helpers.run("alpaca-eval", tmp_path / "a.jsonl")
    assert table.returncode == 0 and "50.000" in table.stdout and "not public" in table.stdout


@pytest.mark.parametrize(("row", "said"), [({"output_1": "a"}, "not an annotation"), (rows(3.0)[0], "within 1 and 2")])
def test_other_files_are_refused(tmp_path: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        preferences([row], "here")
    write_rows(tmp_path / "a.jsonl", [row])
    done = helpers.run("alpaca-eval", tmp_path / "a.jsonl")
    assert done.returncode == 2 and "row 0" in done.stderr


def test_length_control_takes_out_what_length_explains() -> None:
    """Wins drawn by a known law: the rate at equal length is that of its constant, found again by a plain search."""
    draw = random.Random(3)
    gaps = [draw.gauss(0, 500) for _ in range(3000)]
    spread = float(numpy.std([round(1000 + gap) - 1000 for gap in gaps], ddof=1))
    chances = [1 / (1 + math.exp(2 * math.tanh(gap / spread) + 0.5)) for gap in gaps]
    won = [float(draw.random() < chance) for chance in chances]
    judged = [Preference(win, round(1000 + gap), 1000) for win, gap in zip(won, gaps, strict=True)]
    found = length_controlled([(p.win, p.reference_length - p.length) for p in judged])
    assert found is not None and found == pytest.approx(100 / (1 + math.exp(0.5)), abs=2)
    delta = numpy.tanh(numpy.array([p.reference_length - 1000 for p in judged]) / spread)
    wins = numpy.array([p.win for p in judged])

    def loss(phi: float, theta: float) -> float:
        scores = phi * delta + theta
        return float((numpy.logaddexp(0, scores) - wins * scores).sum())

    theta = math.log(found / (100 - found))
    around = numpy.linspace(theta - 0.1, theta + 0.1, 41)
    best = min((loss(phi, t), t) for phi in numpy.linspace(-3, -1, 81) for t in around)
    assert best[1] == pytest.approx(theta, abs=0.02)


def test_which_comes_first_is_drawn_by_the_instruction() -> None:
    switched = [is_switched(f"instruction {n}") for n in range(200)]
    assert 60 < sum(switched) < 140 and switched == [is_switched(f"instruction {n}") for n in range(200)]


def test_a_run_with_a_judge_that_gives_log_probabilities(tmp_path: Path) -> None:
    """The judge gives the longer output 0.8; the third answer is the reference's own, the fourth cannot be read."""
    items = [{"instruction": f"do {n}", "output": f"reference {n}"} for n in range(8)]
    answers = ["x", "a very long answer indeed", "reference 2", "unreadable", *["short"] * 4]
    write_rows(tmp_path / "data/tatsu-lab/alpaca_eval/rows.jsonl", items)
    write_rows(tmp_path / "answers.jsonl", [{"prediction": text} for text in answers])

    def judge(messages: Messages) -> tuple[str, dict[str, float]]:
        text = messages[1]["content"]
        first, second = (part.partition('"""\n')[0] for part in text.split('"output": """')[1:])
        if "unreadable" in text:
            return "neither", {"x": 0.0}
        chance = 0.8 if len(first) > len(second) else 0.2
        return "m", {"m": math.log(chance / 2), "M": math.log((1 - chance) / 2), "q": math.log(0.5)}

    with Scripted(judge) as server:
        write_model(tmp_path / "configs", "strict", server.url)
        done = helpers.run(
            "--models", f"recorded:{tmp_path / 'answers.jsonl'}", "--datasets", "alpaca_eval_gen", "--judge", "strict",
            "--config-dir", tmp_path / "configs", "--data-root", tmp_path / "data", "--work-dir", tmp_path / "work",
            "--set", "alpaca_eval_gen:data.file=rows.jsonl",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(server.asked) == 7 + 1 and all(body["max_tokens"] == 1 for body in server.bodies[1:])
        firsts = ["reference" in json.loads(k)[1]["content"].split('"output": """')[1] for k in server.asked]
        assert set(firsts) == {True, False}
    scores = json.loads((helpers.run_folder(tmp_path / "work") / "scores/scores.json").read_text())["scores"]
    found = {score["metric"]: score["value"] for score in scores}
    assert found["win_rate"] == pytest.approx(100 * (0.2 * 5 + 0.8 + 0.5) / 7)
    assert found["discrete_win_rate"] == pytest.approx(100 * 1.5 / 7)
    assert found["avg_length"] == pytest.approx(sum(map(len, answers)) / 8)
    assert found["unparsable"] == pytest.approx(100 / 7)
