"""Reasoning models: thinking is kept in replies, cut off before extraction, counted, and given room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.configs.model import model_from
from evalkit.core.errors import ConfigError
from evalkit.core.reasoning import FINISHED, NONE, UNFINISHED, Reasoning, Said, split_thinking
from evalkit.core.records import ModelSpec
from evalkit.plan.task import gen_settings
from tests import helpers

MARKS = Reasoning()
IN_PROMPT = Reasoning(open="")


@pytest.mark.parametrize(
    ("text", "marks", "said"),
    [
        ("<think>2+2</think>\n\nIt is 4.\nDone", MARKS, Said("It is 4.\nDone", FINISHED)),
        ("2+2\n</think>It is 4", MARKS, Said("It is 4", FINISHED)),
        ("<think>a</think>x<think>b</think>y", MARKS, Said("y", FINISHED)),
        ("<think>is it 4? or", MARKS, Said("", UNFINISHED)),
        ("Hm. <think>is it 4? or", MARKS, Said("Hm. ", UNFINISHED)),
        ("It is 4", MARKS, Said("It is 4", NONE)),
        ("", MARKS, Said("", NONE)),
        ("is it 4? or", IN_PROMPT, Said("", UNFINISHED)),
        ("a</think>\n4", IN_PROMPT, Said("4", FINISHED)),
        ("[T]a[/T]b", Reasoning("[T]", "[/T]"), Said("b", FINISHED)),
    ],
)
def test_split(text: str, marks: Reasoning, said: Said) -> None:
    assert split_thinking(text, marks) == said


def test_stops_act_on_the_answer_alone() -> None:
    text = "<think>first\nsecond Q: x</think>\n\n Paris\nQ: next"
    assert split_thinking(text, MARKS, ("\n", "Q:")) == Said("Paris", FINISHED)
    assert split_thinking("Paris\nQ: next", MARKS, ("\n", "Q:")) == Said("Paris", NONE)


def test_thinking_gets_room_and_no_stop_ends_it() -> None:
    import evalkit

    benchmark = evalkit.load_benchmark("nq", "samples", kind="chat").benchmark
    plain = gen_settings(benchmark, ModelSpec("m", "x", "chat"), 0)
    thinking = gen_settings(benchmark, ModelSpec("m", "x", "chat", reasoning=Reasoning(budget=1000)), 0)
    assert plain.stop and not thinking.stop
    assert thinking.max_out_len == plain.max_out_len + 1000


def test_config_values() -> None:
    spec = model_from("m", {"path": "x", "kind": "chat", "reasoning": {"budget": 5}})
    assert spec.reasoning == Reasoning("<think>", "</think>", 5)
    assert model_from("m", spec.resolved).reasoning == spec.reasoning
    with pytest.raises(ConfigError, match="reasoning.close is empty"):
        model_from("m", {"path": "x", "kind": "chat", "reasoning": {"close": ""}})


def test_recorded_replies_with_thinking(tmp_path: Path) -> None:
    """Right answers behind wrong thoughts; 3 of 16 replies never come out of their thinking, 1 has none."""
    from evalkit import load_benchmark

    lines = []
    for number, sample in enumerate(load_benchmark("gsm8k", "samples", kind="chat").samples()):
        answer = f"The answer is {str(sample.gold).rpartition('#### ')[2]}."
        text = f"<think>Perhaps 17? Question: no, 99.</think>\n{answer}"
        text = "<think>Perhaps " + answer if number < 3 else answer if number == 3 else text
        lines.append(json.dumps({"prediction": text}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines) + "\n")
    args = ("--models", f"recorded:{tmp_path / 'm.jsonl'}", "--datasets", "gsm8k", "--data-root", "samples")
    work = ("--work-dir", tmp_path / "work")
    done = helpers.run(*args, "--reasoning", *work, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (score,) = result["scores"]
    assert (score["value"], score["n"]) == (100 * 13 / 16, 16)
    assert score["extra"] == {"thinking": 15.0, "unfinished": 3.0}
    assert "3 replies ended during reasoning" in score["flag"]
    assert any("replies with reasoning: gsm8k 93.8% of 16" in note for note in result["notes"])
    folder = helpers.run_folder(tmp_path / "work")
    verdicts = [json.loads(x) for x in next((folder / "scores").rglob("gsm8k.jsonl")).read_text().splitlines()]
    assert [v["detail"]["thinking"] for v in verdicts[:5]] == ["unfinished"] * 3 + ["none", "finished"]
    assert verdicts[4]["detail"]["text"].startswith("<think>"), "the reply is kept as it came"
    again = helpers.run("score", folder)
    assert again.returncode == 0 and "81.25*" in again.stdout
    without = json.loads(helpers.run(*args, "--work-dir", tmp_path / "plain", "--json").stdout)
    assert without["scores"][0]["value"] != score["value"] and not without["scores"][0]["extra"]
