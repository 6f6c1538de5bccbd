"""The steps for benchmarks of one's own on labelled replies, and on what they are made to withstand."""

from __future__ import annotations

import string
from typing import Any

import pytest

from benchmarks.extraction import is_right, measured, reader, replies
from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.errors import ConfigError
from evalkit.scoring.extract import extract

LETTERS = tuple(string.ascii_uppercase)


def choice(reply: str, labels: Any = ("A", "B", "C", "D"), row: Any = None, **arguments: Any) -> Any:
    steps = parse_calls([{"choice": arguments}] if arguments else ["choice"])
    return extract(reply, steps, {"options": labels, "row": row or {}})


@pytest.mark.parametrize("language", ["en", "zh"])
def test_labelled_replies(language: str) -> None:
    """Held at what is measured today; nothing is read out of a reply that gives no answer."""
    found = measured("choice", ["choice"])
    assert found[language] >= 99.0 and found["of non-answers"] == 0.0 and found["false"] <= 0.5
    assert len(list(replies("choice"))) >= 500


def test_labelled_numbers() -> None:
    found = measured("number", ["number"])
    assert found["accuracy"] >= 99.0 and found["of non-answers"] == 0.0


@pytest.mark.parametrize("count", range(1, 27))
def test_any_number_of_options(count: int) -> None:
    """The last letter is an answer; the next one is none."""
    letters = LETTERS[:count]
    for form in (
        "{}",
        "({})",
        "The answer is {}.",
        "ANSWER: **{}**",
        "\\boxed{{{}}}",
        "答案：{}",
        "选{}",
        "answer: {}",
    ):
        assert choice(form.format(letters[-1]), letters) == letters[-1], form
        if count < 26:
            assert choice(form.format(LETTERS[count]), letters) == "", form
    assert choice(f"answer: {letters[-1].lower()}", letters) == letters[-1]


@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        ({"choices": ["red", "green", "blue"]}, {}),
        ({"options": ["red", "green", "blue"]}, {}),
        ({"mine": ["red", "green", "blue"]}, {"texts": "mine"}),
        ({"mine": {"text": ["red", "green", "blue"], "label": ["A", "B", "C"]}}, {"texts": "mine"}),
        ({"x": "red", "y": "green", "z": "blue", "w": None}, {"texts": ["x", "y", "z", "w"]}),
        ({"A": "red", "B": "green", "C": "blue"}, {"options": "ABC"}),
    ],
)
def test_rows_say_how_many_options_there_are(row: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert choice("C", (), row, **arguments) == "C"
    assert choice("D", (), row, **arguments) == ""
    assert choice("It is green.", (), row, **arguments) == "B"


def test_labels_of_the_row_itself() -> None:
    row = {"mine": {"text": ["red", "green", "blue"], "label": ["1", "2", "3"]}}
    assert choice("The answer is 2.", (), row, texts="mine") == "2"
    assert choice("green", (), row, texts="mine") == "2"
    assert choice("4", (), row, texts="mine") == ""


def test_what_cannot_be_an_option_is_an_error() -> None:
    for options in ((), ("yes", "no"), (*LETTERS, "a")):
        with pytest.raises(ConfigError, match="1 to 26 options"):
            choice("A", options)
    with pytest.raises(ConfigError, match="no column 'mine'"):
        choice("A", (), {"q": "x"}, texts="mine")
    with pytest.raises(ConfigError, match="which is 'best'"):
        check_steps(parse_calls([{"number": {"which": "best"}}]))


LONG = (
    "A" + " " * 50_000, "A\n \n" * 9_000, "the answer is " * 2_000, "选项" * 9_000, "\\boxed{" * 5_000,
    "A is " * 9_000, "B, " * 9_000, "1 " * 20_000, "1," * 20_000,
)  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=lambda text: repr(text[:12]))
def test_long_replies_take_no_longer_than_their_length(text: str) -> None:
    """A pattern that goes back over what it has read would not end within the suite's limit."""
    for step in ("choice", "number", "code_block"):
        for factor in (1, 2):
            extract(text * factor, parse_calls([step]), {"options": LETTERS[:4], "row": {}})


@pytest.mark.parametrize(
    ("reply", "arguments", "number"),
    [
        ("1.234,5", {"decimal": ","}, "1234.5"),
        ("Das macht 1.234.567,89 €.", {"decimal": ","}, "1234567.89"),
        ("50%", {"percent": "fraction"}, "0.5"),
        ("The answer is 3. Or is it 4?", {"which": "last"}, "4"),
        ("3, then 4", {"which": "first"}, "3"),
        ("The answer is 3. Or 4?", {}, "3"),
        ("1e999999999", {}, "1e999999999"),
        ("\\frac{1}{0}", {}, "\\frac{1}{0}"),
        ("2½ cups", {}, "2.5"),
        ("1,2,3", {}, "3"),
    ],
)
def test_numbers_on_request(reply: str, arguments: dict[str, str], number: str) -> None:
    assert extract(reply, parse_calls([{"number": arguments}] if arguments else ["number"]), {}) == number


def test_published_steps_stay_beside_it() -> None:
    """What the new step is measured against gives what the published scores depend on."""
    item = {"rule": "choice", "options": ["w", "x", "y", "z"], "reply": "**Answer: C**", "answer": "C"}
    assert reader(["first_option"])(item) == "A" and not is_right(item, "A")
    assert reader(["choice"])(item) == "C" and is_right(item, "C")


FUNCTION = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{FUNCTION}```",
        f"Sure!\n\n```python\n{FUNCTION}```\nExample:\n```python\nprint(f(1))\n```",
        f"First try:\n```python\ndef f(x):\n    return 0\n```\nBetter:\n```python\n{FUNCTION}```",
        f"```py\r\n{FUNCTION}```".replace("\n", "\r\n"),
        f"```python\n{FUNCTION}",
        f"~~~\n{FUNCTION}~~~",
        f"````python\n{FUNCTION}````",
        f"```\n{FUNCTION}```\nRun it:\n```bash\npython f.py\n```",
        f'```json\n{{"a": 1}}\n```\n```Python\n{FUNCTION}```',
        "1. So:\n   ```python\n   def f(x):\n       return x\n   ```",
        f"Here is the code:\n\n{FUNCTION}\nThis works because x is x.",
        FUNCTION,
    ],
)
def test_programs_in_replies(reply: str) -> None:
    program = extract(reply, parse_calls(["code_block"]), {})
    assert program.strip("\n") == FUNCTION.strip("\n")


def test_a_reply_without_a_program_stays_as_it_is() -> None:
    for reply in ("I cannot do that.", "", "    return x + 1"):
        assert extract(reply, parse_calls(["code_block"]), {}) == reply
