"""HumanEval's ways to read a completion out of an answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evalkit.core.records import NamedCall
from evalkit.scoring.extract import extract
from tests.vectors import vectors

RULES = {
    "extracted": "humaneval_body",
    "extracted_head": "humaneval_block",
    "extracted_2406": "humaneval_block_2406",
}


def read(text: str, rule: str) -> str:
    return str(extract(text, [NamedCall(rule)], {}))


@pytest.mark.parametrize("field", RULES)
def test_vectors(shared: Path, field: str) -> None:
    lines = vectors(shared, "humaneval_extract")
    # The sheet's one exception: an f-string is no literal, and answers are never evaluated.
    literal = [line for line in lines if not (field == "extracted" and line["raw"].startswith("f'"))]
    assert len(literal) >= len(lines) - 1 > 0
    assert [line["raw"] for line in literal if read(line["raw"], RULES[field]) != line[field]] == []


def test_nothing_is_evaluated() -> None:
    assert read("'a' + 'b'", "humaneval_body") == "    'a' + 'b'"
    assert read("__import__('os').getcwd()", "humaneval_body") == "    __import__('os').getcwd()"
    assert read("'    return 1'", "humaneval_body") == "    return 1"


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("return 1", "    return 1"),
        ("  x = 1\n  return x", "    x = 1"),  # only the first line is indented anew
        ("```python\nimport math\n\ndef f(x):\n    return math.pi\n```", "    return math.pi"),
        ("```\ndef f(x):\n    return 2\n```\nThat is it.", "    return 2"),
        ("```python\ndef f(x):\n    return 2", "    python\n    def f(x):\n        return 2"),
        ("import math\ndef f(x): return 1", "    import math\n    def f(x): return 1"),
        ("    return 1\nprint(2)", "    return 1"),
        ("", "    "),
    ],
)
def test_body(text: str, body: str) -> None:
    assert read(text, "humaneval_body") == body


def test_block() -> None:
    text = "So:\n```py\n\n  return 1\n```\n```\nother\n```"
    assert read(text, "humaneval_block") == "return 1\n"
    assert read(text, "humaneval_block_2406") == "\n  return 1\n"
    assert read("  return 1", "humaneval_block") == "return 1"


@pytest.mark.parametrize("text", ["({[" * 33_000, "-" * 100_000 + "1", "`" * 100_000, "```a\n" * 20_000, "'" * 99_999])
@pytest.mark.parametrize("rule", list(RULES.values()))
def test_long_hard_texts_take_no_time(text: str, rule: str) -> None:
    started = time.perf_counter()
    read(text, rule)
    assert time.perf_counter() - started < 60, "a hang, not a slow machine"
