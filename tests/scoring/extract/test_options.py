"""First-option rules: the list of May 2024, oddities included, and the 2026 revision."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall
from evalkit.scoring.extract import extract
from evalkit.scoring.extract.options import _boxed_finder, _run_finder
from tests.vectors import vectors

LABELS = ("A", "B", "C", "D")
RULES = {"extracted": "first_option", "extracted_reference_2026": "first_option_2026"}


def option(text: str, rule: str = "first_option", labels: tuple[str, ...] = LABELS) -> str:
    return str(extract(text, [NamedCall(rule)], {"options": labels}))


@pytest.mark.parametrize("name", ["mmlu", "race", "hellaswag", "gpqa", "winogrande"])
def test_vectors(shared: Path, name: str) -> None:
    labels = "AB" if name == "winogrande" else "ABCD"
    lines = vectors(shared, f"{name}_extract")
    assert lines
    wrong = [
        (line["raw"], rule, line[field])
        for line in lines
        for field, rule in RULES.items()
        if field in line and option(line["raw"], rule, tuple(labels)) != line[field]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "may_2024", "revision_2026"),
    [
        ("The answer is: C", "C", "C"),
        ("the correct answer is (D)", "D", "D"),
        ("答案是：B", "B", "B"),
        ("故选C", "C", "C"),  # by the rule on 选, not by its own
        ("故选A只有选项B对", "A", "A"),  # the two joined rules
        ("**Answer: C**", "A", "C"),  # only the revision knows Answer:
        ("Although it may be C", "C", "C"),
        ("Although", "A", "A"),
        ("Either D or a draw of A", "A", "A"),  # a letter at the end goes before one in the midst
        ("Either D or the A-team", "D", "D"),
        ("1) no D/A", "A", "A"),  # everything behind the 1 is looked at, in the options' order
        ("答案是甲。", "", ""),
        ("答案是(C)(B)。", "B", "B"),
        ("答案", "", ""),
        ("b", "", ""),
        ("Ｂ", "", ""),
        ("", "", ""),
        ("The correct option is the third, \\boxed{C}. D:", "D", "C"),
    ],
)
def test_rule(text: str, may_2024: str, revision_2026: str) -> None:
    assert (option(text), option(text, "first_option_2026")) == (may_2024, revision_2026)


def test_trailing_space_counts_in_2024_only() -> None:
    assert option("显然B, 显然C ") == "B"
    assert option("选项甲和C  ", labels=("B", "C")) == "C"


def test_options_as_an_argument() -> None:
    assert extract("E", [NamedCall("first_option", {"options": "ABCDE"})], {"options": LABELS}) == "E"


@pytest.mark.parametrize("labels", [(), ("Yes", "No")])
def test_options_must_be_letters(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="one letter"):
        option("A", labels=labels)


def test_special_letters_are_literal() -> None:
    assert option("x ^ y", labels=("]", "^", "-")) == "^"


def test_linear_searches_equal_their_patterns() -> None:
    draw = random.Random(3)
    plain = re.compile(r"答案是\s?(\S+)(?:。|$)", re.DOTALL)
    boxed = re.compile(r"the correct answer is:?.*?boxed\{([AB])\}", re.DOTALL)
    for _ in range(20_000):
        text = "".join(draw.choices(["答案是", "。", " ", "\n", "A", "x", "答案", "是"], k=draw.randint(0, 12)))
        match, found = plain.search(text), _run_finder("答案是")(text)
        assert (match and (match[0], match[1])) == (found and (found.whole, found.captured)), repr(text)
    for _ in range(5_000):
        parts = ["the correct answer is", ":", "boxed{A}", "boxed{B}", "boxed{", "\n", "B"]
        text = "".join(draw.choices(parts, k=draw.randint(0, 8)))
        match, found = boxed.search(text), _boxed_finder("the correct answer is:?", "[AB]")(text)
        assert (match and (match[0], match[1])) == (found and (found.whole, found.captured)), repr(text)


HARD = {
    "ones": "1" * 100_000,
    "lines of ones": "1\n" * 50_000,
    "spaces": " " * 100_000,
    "a run of spaces": "答案" + " " * 100_000 + "x",
    "one long run": "答案是" * 33_000 + " x",
    "many runs": "答案是 " * 25_000,
    "all three": "答案是答案应该是答案为" * 9_000 + " x",
    "choose": "选 " * 50_000,
    "so": "所以 故选 只有选项 " * 9_000,
    "leads": "the correct answer is " * 4_500,
    "answers": "Answer : " * 11_000,
    "the answer is": ("the answer is" + " " * 20) * 3_000,
    "no letter": "x" * 100_000,
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("rule", list(RULES.values()))
def test_long_hard_texts_take_no_time(name: str, rule: str) -> None:
    started = time.perf_counter()
    assert option(HARD[name], rule) == ("A" if name == "answers" else "")
    assert time.perf_counter() - started < 60, "a hang, not a slow machine"
