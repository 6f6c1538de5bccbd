"""Reasoning models: thinking is kept in replies, cut off before extraction, counted, and given room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.configs.model import model_from
from evalkit.core.errors import ConfigError
from evalkit.core.reasoning import (
    FINISHED,
    KNOWN,
    NONE,
    UNFINISHED,
    Reasoning,
    SplitOutput,
    opened_by,
    split_reasoning,
    stopped,
    undeclared,
    with_trace,
)
from evalkit.core.records import ModelSpec
from evalkit.plan.task import gen_settings
from tests import helpers

MARKS = Reasoning()
IN_PROMPT = Reasoning(open="")


@pytest.mark.parametrize(
    ("text", "marks", "said"),
    [
        ("<think>2+2</think>\n\nIt is 4.\nDone", MARKS, SplitOutput("It is 4.\nDone", FINISHED)),
        ("2+2\n</think>It is 4", MARKS, SplitOutput("It is 4", FINISHED)),
        ("<think>a</think>x<think>b</think>y", MARKS, SplitOutput("y", FINISHED)),
        ("<think>is it 4? or", MARKS, SplitOutput("", UNFINISHED)),
        ("Hm. <think>is it 4? or", MARKS, SplitOutput("Hm. ", UNFINISHED)),
        ("It is 4", MARKS, SplitOutput("It is 4", NONE)),
        ("", MARKS, SplitOutput("", NONE)),
        ("is it 4? or", IN_PROMPT, SplitOutput("", UNFINISHED)),
        ("a</think>\n4", IN_PROMPT, SplitOutput("4", FINISHED)),
        ("[T]a[/T]b", Reasoning("[T]", "[/T]"), SplitOutput("b", FINISHED)),
    ],
)
def test_split(text: str, marks: Reasoning, said: SplitOutput) -> None:
    assert split_reasoning(text, marks) == said


def test_stops_act_on_the_answer_alone() -> None:
    text = "<think>first\nsecond Q: x</think>\n\n Paris\nQ: next"
    assert split_reasoning(text, MARKS, ("\n", "Q:")) == SplitOutput("Paris", FINISHED)
    assert split_reasoning("Paris\nQ: next", MARKS, ("\n", "Q:")) == SplitOutput("Paris", NONE)


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
    (undeclared,) = json.loads(helpers.run(*args, "--work-dir", tmp_path / "plain", "--json").stdout)["scores"]
    assert (undeclared["value"], undeclared["extra"]) == (score["value"], score["extra"])
    assert "15 replies have a reasoning trace, removed before extraction" in undeclared["flag"]
    assert "3 replies ended during reasoning (length limit or stop string)" in undeclared["flag"]
    kept = helpers.run(*args, "--work-dir", tmp_path / "kept", "--json", "--set", "model.reasoning.split=false")
    (whole,) = json.loads(kept.stdout)["scores"]
    assert whole["extra"] == {} and whole["value"] != score["value"], "as it came, where that is asked for"


@pytest.mark.parametrize("marks", [m for m in KNOWN], ids=lambda m: m.open)
def test_usual_marks_are_recognised_by_themselves(marks: Reasoning) -> None:
    whole = f"\n{marks.open}B, or C?\nstop{marks.close}\n\nA\nstop"
    assert split_reasoning(whole, None, ("\nstop",)) == SplitOutput("A", FINISHED)
    assert split_reasoning(f"{marks.open}is it B", None) == SplitOutput("", UNFINISHED)
    assert split_reasoning(whole, Reasoning("[T]", "[/T]")).answer == "A\nstop", "other marks than the declared ones"
    assert stopped(whole, ("\nstop",)) == whole.removesuffix("\nstop")
    assert stopped(f"{marks.open}a\nstop", ("\nstop",)) == f"{marks.open}a\nstop", "no stop ends a trace"
    assert opened_by(f"user: hi\nassistant: {marks.open}\n") == marks.open
    assert opened_by(f"{marks.open}\n\n{marks.close}\n\n") == opened_by("assistant:") == ""


@pytest.mark.parametrize("text", ["", "A\n", " A", "a <thinking> man", "x < think > y", "A [THINK] B"])
def test_replies_without_a_trace_stay_as_they_are(text: str) -> None:
    assert split_reasoning(text, None, ("\n",)) == SplitOutput(text, NONE), "the engine has cut it at its stops"


def test_a_trace_that_came_apart() -> None:
    assert split_reasoning(with_trace("B?", "A", cut_off=False), None) == SplitOutput("A", FINISHED)
    assert split_reasoning(with_trace("B?", "A", cut_off=True), None) == SplitOutput("A", FINISHED)
    assert split_reasoning(with_trace("B?", "", cut_off=True), None) == SplitOutput("", UNFINISHED)
    assert split_reasoning(with_trace("B?", "", cut_off=False), None) == SplitOutput("", FINISHED)


def test_models_whose_template_opens_the_trace() -> None:
    """Most replies have the closing mark and none the opening one: one without any ended inside its trace."""
    marks = undeclared(["a</think>A", "b</think>B", "is it C"])
    assert marks == IN_PROMPT
    assert split_reasoning("is it C", marks) == SplitOutput("", UNFINISHED)
    assert undeclared(["a</think>A", "B", "C"]) is None and undeclared([]) is None
    assert undeclared(["<think>a</think>A", "b</think>B"]) is None


def test_extraction_in_python_removes_the_trace() -> None:
    import evalkit

    benchmark = evalkit.load_benchmark("mmlu_gen", "samples", kind="chat")
    reply = "<think>The answer is B. 答案是B</think>\nC"
    assert benchmark.extract(reply) == "C"
    assert benchmark.score([reply], ["C"]) == {"accuracy": 100.0}
