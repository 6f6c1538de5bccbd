"""The code interpreter: a scripted model on 40 items through the public command, in the real sandbox, killed midway."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.agents.base import MODEL, TOOL, Answer, Ask, Call, Event, State
from evalkit.agents.python import PythonTools, code_in
from evalkit.agents.react import GIVEN_UP, LAST_TURN, NO_ACTION, Action, react
from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall, Sample, Turn
from evalkit.data.fetch import prompt_rounds
from evalkit.sandbox import SandboxError, choose
from evalkit.scoring.metrics import Case, Tools, make_metric
from evalkit.scoring.metrics.base import Judged
from tests import helpers
from tests.agents.scripted import Messages, Scripted, write_benchmark, write_model, write_rows

COUNT = 40
CONFIG = """
base: gsm8k_agent_gen_be1606
data: {path: own, config: null, file: items.jsonl}
shots: {turns: fewshot/own.jsonl, count: 1, sha256: null, fetch: null}
solver: {react: {max_turns: 3, seconds: 2}}
"""
SHOT = (
    ("user", "How much is 1 and 1?"),
    ("assistant", "Tool:PythonInterpreter\nTool Input:def solution():\n    return 1 + 1"),
    ("system", "Response:2"),
    ("assistant", "Thought: According to the response, I got the answer\nFinalAnswer: 2"),
)
BAD = {
    5: "while True:\n    print('x' * 1000)",
    6: "import os, socket\ndef solution():\n    socket.socket()\n    os.fork()\n    return open('/etc/passwd').read()",
    7: "while True:\n    pass",
    9: "import os\nos._exit(0)",
}
"""Kind of item -> what the model runs: prints without end, takes what is forbidden, never stops, ends its process."""


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    try:
        choose()
    except SandboxError as error:
        pytest.skip(f"no sandbox works here: {error}")


def tool(code: str) -> str:
    return f"Thought: let us compute\nTool:PythonInterpreter\nTool Input:```python\n{code}\n```"


def returning(value: object) -> str:
    return tool(f"def solution():\n    print('noise')\n    return {value}")


def model(messages: Messages) -> str:
    """Ten kinds of items: right with and without the tool, errors, endless loops, forbidden acts, no format."""
    place = max(i for i, m in enumerate(messages) if m["role"] == "user")
    item = int(re.findall(r"item (\d+)", messages[place]["content"])[0])
    gold, kind, turn = 100 + item, item % 10, sum(m["role"] == "assistant" for m in messages[place:])
    said = messages[-1]["content"] if turn else ""
    final, wrong = f"Thought: done\nFinalAnswer: {gold}", f"FinalAnswer: it is {gold + 1}"
    if kind == 4:
        return returning(gold)  # in the last turn, too, where it should answer
    scripts = {
        0: (returning(gold), f"FinalAnswer: {said.partition('Response:')[2].strip()}"),
        1: (final,),
        2: (tool("def solution():\n    return 1 / 0"), returning(gold), final),
        3: (returning(gold), wrong),
        8: ("I would rather talk.", "Tool:Calculator\nTool Input: 1 + 1", final),
        5: (tool(BAD[5]), wrong),
        6: (tool(BAD[6]), final),
        7: (tool(BAD[7]), final),
        9: (tool(BAD[9]), wrong),
    }
    return scripts[kind][turn]


def test_forty_items_killed_midway(tmp_path: Path) -> None:
    """Right without a tool: kinds 1, 8. Right with one: 0, 2, 6, 7. Wrong with one that worked and was right: 3, 4."""
    rows = [{"question": f"item {n}", "answer": f"so it is\n#### {100 + n}"} for n in range(COUNT)]
    write_rows(tmp_path / "data/own/items.jsonl", rows)
    write_rows(tmp_path / "data/fewshot/own.jsonl", [{"role": r, "content": c} for r, c in SHOT])
    write_benchmark(tmp_path / "configs", "own_agent_gen", CONFIG)
    with Scripted(model, delay=0.05) as server:
        write_model(tmp_path / "configs", "scripted", server.url, concurrency=2)
        args: list[object] = [
            "--models", "scripted", "--datasets", "own_agent_gen", "--config-dir", tmp_path / "configs",
            "--data-root", tmp_path / "data", "--work-dir", tmp_path / "work",
        ]  # fmt: skip
        refused = helpers.run(*args)
        assert refused.returncode == 2 and "--allow-code" in refused.stderr and not server.asked
        process = helpers.start(*args, "--allow-code")
        deadline = time.monotonic() + 300
        while sum(server.asked.values()) < COUNT + 8:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        time.sleep(1.0)
        kept = turns(helpers.run_folder(tmp_path / "work"))
        before = server.asked
        done = helpers.run(*args, "--allow-code", timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        again, asked = server.asked - before, server.asked
    folder = helpers.run_folder(tmp_path / "work")
    everything = turns(folder)
    assert len(everything) == len(set(everything)) and COUNT <= len(kept) < len(everything)
    assert sum(again.values()) == len(everything) - len(kept), "no turn that was kept is asked again, all others are"
    prompts = "".join(asked)
    for said in (
        "Time out after 2 seconds.",
        "Failed. division by zero.",
        NO_ACTION,
        "check the action name",
        LAST_TURN,
    ):
        assert said in prompts
    assert "root:" not in prompts and "noise" not in json.dumps([json.loads(p)[-1] for p in asked])
    table = list(csv.DictReader((folder / "report/summary.csv").read_text().splitlines()))
    found = {row["metric"]: float(row["scripted"]) for row in table}
    assert found == {"follow_acc": 60.0, "reasoning_acc": 80.0, "code_acc": 60.0, "action_pct": 80.0}


def turns(folder: Path) -> list[str]:
    """Keys of the model's turns in the store."""
    lines = [line for path in (folder / "replies").rglob("*.jsonl") for line in path.read_bytes().split(b"\n")]
    records: list[dict[str, Any]] = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return [record["key"] for record in records if record.get("label", "").startswith("turn")]


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("Thought: x\nTool:PythonInterpreter\nTool Input:1 + 1", Action("PythonInterpreter", "1 + 1")),
        ('Tool: A\nTool: B \nTool Input: "a\nb" ', Action("B", "a\nb")),
        ("Tool:A\nTool Input:x\nTool:B\nTool Input:y", Action("B", "x\nTool:B\nTool Input:y")),
        ("Tool:A", None),
        ("Tool Input:x", None),
        ("nothing", None),
    ],
)
def test_parse(text: str, action: Action | None) -> None:
    assert react().parse(text) == action


def state(*events: tuple[str, str]) -> State:
    made = tuple(Event(role, text, tokens=10 * (role == MODEL)) for role, text in events)
    return State(Sample("s/0", "s", 0, {}, None), (Turn("user", "q"),), made)


CALL = "Tool:PythonInterpreter\nTool Input:x"


def test_moves() -> None:
    solver = react()
    assert solver.next(state()) == Ask((Turn("user", "q"),))
    assert solver.next(state((MODEL, CALL))) == Call("PythonInterpreter", "x", 20.0)
    second = (Turn("user", "q"), Turn("assistant", CALL), Turn("system", "Response:7\n"))
    assert solver.next(state((MODEL, CALL), (TOOL, "7"))) == Ask(second)
    third = (*second, Turn("assistant", "hm"), Turn("system", f"Response:{NO_ACTION}\n"), Turn("system", LAST_TURN))
    assert solver.next(state((MODEL, CALL), (TOOL, "7"), (MODEL, "hm"))) == Ask(third)
    assert solver.next(state(*[(MODEL, "hm")] * 3)) == Answer(GIVEN_UP)
    assert solver.next(state((MODEL, "FinalAnswer: 1 FinalAnswer: 2"))) == Answer(" 2")
    assert react(max_tokens=10).next(state((MODEL, "hm"))) == Answer(GIVEN_UP)
    assert react(max_turns=1).next(state()) == Ask((Turn("user", "q"), Turn("system", LAST_TURN)))
    assert react(role="user").next(state((MODEL, "hm"))) == Ask(
        (Turn("user", "q"), Turn("assistant", "hm"), Turn("user", f"Response:{NO_ACTION}\n"))
    )


@pytest.mark.parametrize("arguments", [{"max_turns": 0}, {"seconds": 0}, {"role": "tool"}])
def test_impossible_limits(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        react(**arguments)


def test_the_tool() -> None:
    assert code_in("a ```python\nx\n``` b ```y```") == "\nx\n" and code_in("```\nx") == "\nx" and code_in("x") == "x"
    tools = PythonTools(choose())

    def run(code: str) -> tuple[str, bool]:
        result = tools.run(Call("PythonInterpreter", code, 5.0), ())
        return result.text, result.ok

    assert run("x = 1\ndef solution():\n    return [x, 'a']") == ("[1, 'a']", True)
    assert run("def solution():\n    return x") == ("Failed. name 'x' is not defined.", False), "each call is alone"
    assert run("print(1)") == ("Failed. name 'solution' is not defined.", False)
    assert run("def solution(:")[0].startswith("Failed. ") and not run("def solution(:")[1]
    text, ok = run("def solution():\n    return 'y' * 1000000")
    assert ok and len(text) == 8192
    assert run("import os\nos.write(1, b'[true, 5]')\nos._exit(0)")[1] is False
    assert run("from sympy import symbols\nx = symbols('x')\ndef solution():\n    return (x + x) * 2") == ("4*x", True)


def test_tool_use_over_the_tool_steps_only() -> None:
    metric = make_metric(NamedCall("tool_use", {"of": {"numeric_accuracy": {}}, "code_over": "tool"}))
    run = {"role": "tool", "text": "5", "ok": True}
    given = [("5", [run]), ("4", [run]), ("4", [{**run, "text": "Failed.", "ok": False}]), ("5", []), ("1", [])]
    cases = [Case(f"s/{n}", 0, answer, "5", {}, {}, transcript=t) for n, (answer, t) in enumerate(given)]
    judged = [Judged(c.sample_id, v) for c, v in zip(cases, metric.judge(cases, Tools()), strict=True)]
    found = metric.combine(judged)
    assert found == pytest.approx({"follow_acc": 40, "reasoning_acc": 60, "code_acc": 200 / 3, "action_pct": 60})
    assert metric.counts(judged) == {"code_acc": 3}
    none = [j for j in judged if not j.values["called"]]
    assert "code_acc" not in metric.combine(none)


def test_published_rounds_become_turns() -> None:
    config = "a = dict(x=dict(round=[dict(role='HUMAN', prompt='1\\pi'),\n dict(role='BOT', prompt='2'),"
    config += "\n dict(role='SYSTEM', prompt='3'),\n dict(role='HUMAN', prompt='{question}')]))\n"
    turns = [json.loads(line) for line in prompt_rounds(config).splitlines()]
    assert [t["role"] for t in turns] == ["user", "assistant", "system"] and turns[0]["content"] == "1\\pi"
