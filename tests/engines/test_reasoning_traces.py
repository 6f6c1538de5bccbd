"""Reasoning traces as engines get them: in a field of their own, inside the text, opened by the prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.reasoning import FINISHED, NONE, UNFINISHED, split_reasoning
from evalkit.core.records import GenSettings, ModelSpec, Request, Turn
from evalkit.engines.openai_api.client import Answer
from evalkit.engines.openai_api.messages import gen_reply
from tests import helpers
from tests.engines.servers import Stub
from tests.engines.test_api import run, write_model

ASKED = Request("k", "s/0", "gen", turns=(Turn("user", "Q"),), gen=GenSettings(64, stop=("\n",)))
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def reply_to(message: dict[str, Any], finish: str = "stop", request: Request = ASKED) -> Any:
    choice = {"message": message} if request.turns else message
    answer = Answer({"choices": [{**choice, "finish_reason": finish}]}, 0.0)
    return gen_reply(request, answer, ModelSpec("m", "x", "chat"), (1, 1))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("content", "finish", "answer", "thinking"),
    [
        ("C\nmore", "stop", "C", FINISHED),
        ("", "length", "", UNFINISHED),
        (None, "length", "", UNFINISHED),
        ("", "stop", "", FINISHED),
        ("C", "length", "C", FINISHED),
    ],
)
def test_a_field_of_its_own(field: str, content: Any, finish: str, answer: str, thinking: str) -> None:
    reply = reply_to({field: "Hm.\n答案是B, or D?", "content": content}, finish)
    assert "答案是B" in reply.text, "the trace is kept"
    split = split_reasoning(reply.text, None, ("\n",))
    assert (split.answer, split.thinking) == (answer, thinking)


def test_inside_the_text() -> None:
    """Stop strings are looked for behind the trace."""
    assert reply_to({"content": "<think>a\nb</think>\n\nC\nD"}).text == "<think>a\nb</think>\n\nC"
    assert reply_to({"content": "<think>a\nb"}, "length").text == "<think>a\nb"
    assert reply_to({"content": "C\nD"}).text == "C"


def test_opened_by_a_prompt_of_text() -> None:
    asked = Request("k", "s/0", "gen", "Q: 1+1?\n<think>\n", gen=GenSettings(64))
    assert reply_to({"text": "two"}, "length", asked).text == "<think>two"


def test_an_endpoint_whose_reasoning_says_another_letter(tmp_path: Path) -> None:
    """The answer is read from the content alone, and the row says that traces were removed."""

    def reasoned(value: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "C", "reasoning_content": "Perhaps 答案是B. The answer is B."}
        return {**value, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    with Stub() as stub:
        stub.twist = reasoned
        write_model(tmp_path / "configs", stub.url)
        done = run(tmp_path, "--datasets", "mmlu_gen_4d595a:anatomy", "--json")
        assert done.returncode == 0, done.stderr
    score = next(s for s in json.loads(done.stdout)["scores"] if s["n"])
    assert f"{score['n']} replies have a reasoning trace, removed before extraction" in score["flag"]
    (file,) = (helpers.run_folder(tmp_path / "work") / "scores").rglob("anatomy*.jsonl")
    assert {json.loads(line)["answer"] for line in file.read_text().splitlines()} == {"C"}


@pytest.mark.parametrize("path", ["auto", "plain"])
def test_a_template_that_opens_the_trace(tiny_chat_model: Path, engine_for: Callable[..., Any], path: str) -> None:
    """The output is a trace from its first word on, and so its end is missing where the limit cuts it."""
    replies = {}
    for name, end in (("opened", "<think>\n"), ("closed", "<think>\n\n</think>\n\n")):
        options = {} if path == "auto" else {"engine_path": path}
        engine = engine_for(tiny_chat_model, kind="chat", chat_template=TEMPLATE + end, options=options)
        (replies[name],) = engine.run([Request("k", "s/0", "gen", turns=(Turn("user", "Q"),), gen=GenSettings(4))])
    assert replies["opened"].text.startswith("<think>")
    assert split_reasoning(replies["opened"].text, None).thinking == UNFINISHED
    assert split_reasoning(replies["closed"].text, None).thinking == NONE
