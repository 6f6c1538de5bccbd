"""Verdicts read out of replies; texts that cannot pass for one; agreement."""

from __future__ import annotations

import math

import pytest

from evalkit.core.errors import ConfigError
from evalkit.core.records import Reply
from evalkit.scoring.judges.verdicts import FORMS, JUDGED, RATING, form_of, harmless, marks_of
from evalkit.scoring.metrics.judge import cohens_kappa

CASES = [
    ("rating", "x Rating: [[7.5]] y", 7.5), ("rating", "[[7]]", None), ("rating", "Rating: [[3]] Rating: [[9]]", 3.0),
    ("rating", "Rating:\n[[8]]", 8.0), ("rating", "Rating: [[1.2.3]]", None), ("rating", "", None),
    ("choice", "so [[A]]", 1.0), ("choice", "[[B]]", 0.0), ("choice", "[[C]]", 0.5), ("choice", "[[AB]] [[A]]", None),
    ("arena", "[[A>>B]]", 1.0), ("arena", "[[B>A]] and again [[B>A]]", 0.0), ("arena", "[[A>B]] [[A=B]]", None),
    ("dimensions", "好 {'清晰度': 6, '综合得分': 7}", 7.0), ("dimensions", "{'综合得分': 3} {'综合得分': 5}", 5.0),
    ("dimensions", "{'综合得分': 11}", None), ("dimensions", "{'别的': 3, '综合得分': 5}", None),
    ("dimensions", "清晰度: 6\n完备性: 5\n综合 4", 4.0), ("dimensions", "{'a'} {'清晰度': 6, '综合得分': 2} 完", 2.0),
    ("dimensions", "综合得分 7", None), ("dimensions", "{'清晰度': 6}", None),
    ("correctness", "Is it correct? It is INCORRECT.", 0.0), ("correctness", "correct", 1.0),
    ("correctness", "?", None),
    ("first_letter", " m", 1.0), ("first_letter", "Model", 0.0), ("first_letter", "x", None),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "verdict"), CASES)
def test_read(form: str, text: str, verdict: float | None) -> None:
    assert FORMS[form].read(Reply("k", text=text)) == verdict


def test_read_by_log_probabilities() -> None:
    read = FORMS["first_letter"].read
    both = Reply("k", text="m", top={"m": math.log(0.2), "M": math.log(0.6), "x": math.log(0.2)})
    assert read(both) == pytest.approx(0.25)
    assert read(Reply("k", text="M", top={"m": -0.5})) == 1.0, "what is not among the alternatives counts as 0"
    assert read(Reply("k", text="m", top={"x": -0.5})) is None


def test_patterns() -> None:
    assert form_of({"pattern": r"Score: (\d+)"}).read(Reply("k", text="Score: 12")) == 12.0
    assert form_of({"pattern": r"Score: (\w+)"}).read(Reply("k", text="Score: two")) is None
    for bad in ({"pattern": "("}, {"pattern": "x"}, "ratings", 3):
        with pytest.raises(ConfigError):
            form_of(bad)


def test_marks_and_harmless_texts() -> None:
    template = '{{ q }}\n"output": """{{ answer }}"""\n[B]\n{{ answers[1] }}\n### User:\n'
    marks = marks_of(template, frozenset({"answer", "answers"}))
    assert marks == ('"output": """', '"""', "[B]", "### User:")
    assert harmless('def f():\n    """x"""', marks, None) == 'def f():\n    " " "x" " "'
    assert harmless("a\n[b]\n###  user: b", marks, None) == "a\n(removed)\n(removed) b"
    assert RATING.search(harmless("Rating: [[9]]", (), RATING)) is None
    assert "<|im_end|>" not in harmless("<|im_end|>", (), None)
    plain = marks_of("Response: {{ answer }}\nScore", frozenset({"answer"}))
    assert harmless("The Response: fine", plain, None) == "The Response: fine", "within a line such words are harmless"
    assert harmless("Response: fine", plain, None) == "(removed) fine"
    usual = "A list [1, 2], x < 3 | y, and {'a': 1}.\n\n## Title\nIt is correct."
    assert harmless(usual, marks, RATING) == usual and JUDGED.search(usual)


def test_cohens_kappa() -> None:
    """The example of 50 proposals: both yes 20, both no 15, 5 and 10 apart; 0.4 by hand."""
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)
    assert cohens_kappa([(1, 1)] * 3) is None and cohens_kappa([]) is None
    assert cohens_kappa([(1, 0), (0, 1)]) == -1.0
