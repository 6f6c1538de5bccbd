"""Chats of several turns through the public command: what is asked, kept, resumed, counted."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from evalkit.agents.base import MODEL, Answer, Ask, Event, State
from evalkit.agents.dialogue import dialogue
from evalkit.core.records import Sample, Turn
from tests import helpers
from tests.agents.scripted import Messages, Scripted, write_benchmark, write_model, write_rows

CONFIG = """
mode: gen
data: {path: own, file: chat.jsonl}
gold: gold
prompt: [{user: "{{ turns[0] }}"}]
solver: {dialogue: {turns: "turns[1:]"}}
gen: {max_out_len: 16}
extract: [last_number]
metric: numeric_accuracy
"""
COUNT = 12


def count_words(messages: Messages) -> str:
    """The turn's number, and how much of the conversation was seen."""
    return f"turn {sum(m['role'] == 'user' for m in messages)} of {len(messages)} messages"


def arrange(tmp_path: Path, url: str, **options: object) -> list[object]:
    """Conversations of one, two and three turns; the command that leads them."""
    rows = [
        {"turns": [f"question {n}.{t}" for t in range(n % 3 + 1)], "gold": str(2 * (n % 3) + 1)} for n in range(COUNT)
    ]
    write_rows(tmp_path / "data/own/chat.jsonl", rows)
    write_benchmark(tmp_path / "configs", "chat_gen", CONFIG)
    write_model(tmp_path / "configs", "scripted", url, **options)
    return [
        "--models", "scripted", "--datasets", "chat_gen", "--config-dir", tmp_path / "configs",
        "--data-root", tmp_path / "data", "--work-dir", tmp_path / "work",
    ]  # fmt: skip


TURNS = sum(n % 3 + 1 for n in range(COUNT))


def test_every_turn_follows_the_models_own_answers(tmp_path: Path) -> None:
    with Scripted(count_words) as server:
        done = helpers.run(*arrange(tmp_path, server.url))
        assert done.returncode == 0, done.stdout + done.stderr
        asked = server.asked
    assert len(asked) == TURNS and set(asked.values()) == {1}
    longest = max((json.loads(key) for key in asked), key=len)
    assert [m["role"] for m in longest] == ["user", "assistant", "user", "assistant", "user"]
    assert longest[1]["content"] == "turn 1 of 1 messages" and longest[2]["content"].endswith(".1")
    assert "100.00" in done.stdout
    folder = helpers.run_folder(tmp_path / "work")
    lines = [json.loads(line) for f in (folder / "replies").rglob("*.jsonl") for line in f.read_text().splitlines()]
    assert len(lines) == TURNS + COUNT, "every turn is a reply, and every conversation one more"
    verdicts = [json.loads(x) for x in (folder / "scores/scripted/chat_gen/chat.jsonl").read_text().splitlines()]
    transcript = verdicts[2]["detail"]["transcript"]
    assert [turn["role"] for turn in transcript] == ["assistant", "user", "assistant", "user", "assistant"]
    again = helpers.run("score", folder)
    assert again.returncode == 0 and "100.00" in again.stdout


def test_killed_inside_conversations_no_turn_is_asked_twice(tmp_path: Path) -> None:
    with Scripted(count_words, delay=0.15) as server:
        args = arrange(tmp_path, server.url, concurrency=2)
        process = helpers.start(*args)
        deadline = time.monotonic() + 120
        while sum(server.asked.values()) < COUNT + 2:  # the second round has begun
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        time.sleep(1.0)  # what was under way is answered, to nobody
        kept = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
        before = server.asked
        done = helpers.run(*args)
        assert done.returncode == 0, done.stdout + done.stderr
        again = server.asked - before
    keys = helpers.reply_keys(helpers.run_folder(tmp_path / "work"))
    assert len(keys) == len(set(keys)) == TURNS + COUNT and set(kept) < set(keys)
    turns_kept = len([key for key in kept])
    summaries = sum(1 for n in range(COUNT) if n % 3 == 0)
    assert sum(again.values()) >= TURNS - turns_kept, "what was not kept is asked"
    assert sum(again.values()) <= TURNS - (turns_kept - summaries), "what was kept is not"


def test_rows_without_questions_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with Scripted(count_words) as server:
        args = arrange(tmp_path, server.url)
        write_rows(tmp_path / "data/own/chat.jsonl", [{"turns": ["a", "b"], "gold": "1"}, {"turns": "ab", "gold": "1"}])
        done = helpers.run(*args)
        assert done.returncode == 2 and "row 1" in done.stderr and "no list of texts" in done.stderr
        assert done.stderr.count("chat_gen [") == 1, "the place of the row is named once"
        assert not server.asked
        done = helpers.run(*args, "--set", "chat_gen:mode=ppl")
        assert done.returncode == 2 and "has no conversation" in done.stderr


def test_a_conversation_is_forecast_by_its_turns(tmp_path: Path) -> None:
    with Scripted(count_words) as server:
        done = helpers.run(*arrange(tmp_path, server.url), "--dry-run", "--json")
    (found,) = json.loads(done.stdout)
    assert (found["samples"], found["requests"], found["written"]) == (COUNT, TURNS, TURNS * 16)


def test_recorded_outputs_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "outputs.jsonl", [{"prediction": "1"}] * COUNT)
    args = arrange(tmp_path, "http://127.0.0.1:9/v1")
    done = helpers.run("--models", f"recorded:{tmp_path / 'outputs.jsonl'}", *args[2:])
    assert done.returncode == 2 and "conversation of several turns" in done.stderr


@pytest.mark.parametrize("said", [0, 1, 2])
def test_moves_of_a_dialogue(said: int) -> None:
    sample = Sample("s/0", "s", 0, {"turns": ["a", "b"]}, None)
    events = tuple(Event(MODEL, f"answer {n}") for n in range(said))
    move = dialogue("turns[1:]").next(State(sample, (Turn("user", "a"),), events))
    if said == 2:
        assert move == Answer("answer 1")
    else:
        talk = (Turn("user", "a"), Turn("assistant", "answer 0"), Turn("user", "b"))
        assert move == Ask(talk[: 1 + 2 * said])
