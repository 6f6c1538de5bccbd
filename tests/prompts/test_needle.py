"""Needle prompts: equal to the published construction, and each line encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError
from evalkit.prompts.builders.base import Material
from evalkit.prompts.builders.needle import Haystack, Needle, build_needle, build_row, choose, question_for
from tests.vectors import vectors

LINES = [f"Line {i}. " for i in range(10)]
FACT = Needle("The key is blue.", "What is the key?", "blue")
SINGLE = ("niah_v1_single", "niah_v2_single", "niah_base")
TEMPLATES = {
    ("niah_v2_single", "English"): (
        "This is a test of long-text capability. You need to first read the long document below, and then answer the "
        "final question based on the information in the document.\nThe content of the long document is as follows\n\n"
        "<Document>\n{context}\n</Document>\n\nBased on the information in the document, now please answer: "
        "{question}\n"
    ),
    ("niah_v2_single", "Chinese"): (
        "这是一个长文本能力的测试，你需要首先阅读下面的长文档，然后根据文档中的信息回答最后的问题。\n长文档的内容如下\n\n"
        "<文档>\n{context}\n</文档>\n\n根据文档中的信息，现在请问：{question}\n"
    ),
    ("niah_v1_single", "English"): (
        "You are an intelligent AI assistant skilled in answering user questions.\nPlease keep your answers concise "
        "and clear. Do not talk about irrelevant topics or repeat your answers.\nThe document given to you by the user "
        "is {context}\n\nNow, the question is: {question}"
    ),
    ("niah_v1_single", "Chinese"): (
        "你是一个善于回答用户问题的智能AI助手\n请保持你的回答简洁清楚。不要说和下面文档中的无关的话，或重复你的回答\n"
        "用户现在给你的文档是{context}\n\n现在请问：{question}"
    ),
}


class Characters:
    """One token for each character; counts what it is asked."""

    name = "characters"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def asked(config: str, question: str, language: str) -> str:
    """The question as each published prompt asks it; the second version leaves it alone."""
    return question if config == "niah_v2_single" else question_for(question, language, config != "niah_base")


def test_vectors(shared: Path) -> None:
    """Single needles; the one multi-needle line is of another benchmark and left out."""
    lines = [line for line in vectors(shared, "niah_prompt") if line["config"].split()[0] in SINGLE]
    assert {line["config"].split()[0] for line in lines} == set(SINGLE)
    for line in lines:
        check_line(line["config"].split()[0], line)


def check_line(config: str, line: dict[str, Any]) -> None:
    given, language = line["params"], line["params"]["language"]
    drawn = choose(line["inputs"]["needles_file"], language, given["counter"])
    needle = Needle(drawn.text, asked(config, drawn.question, language), drawn.keyword)
    row = build_row(
        Haystack(line["inputs"]["haystack_lines"], Characters()), needle, length=given["length"],
        depth=given["depth"], buffer=given["length_buffer"], counter=given["counter"],
    )  # fmt: skip
    template = TEMPLATES["niah_v1_single" if config == "niah_base" else config, language]
    assert template.format(**row) == line["prompt"]
    assert row["answer"] == line["answer"]


def row(haystack: Haystack, length: int, depth: float = 50, counter: int = 0) -> dict[str, Any]:
    return dict(build_row(haystack, FACT, length=length, depth=depth, buffer=10, counter=counter))


def test_lengths_and_depths() -> None:
    haystack = Haystack(LINES, Characters())
    hidden = "\nThe key is blue.\n"
    for depth in (0, 50, 100):
        context = row(haystack, 80, depth)["context"]
        assert len(context) == 70
        assert context.index(hidden) == (70 - len(hidden)) * depth // 100
    assert row(haystack, 5)["context"] == hidden
    assert row(haystack, 80)["answer"] == "\nThe key is blue.\n*blue"


def test_insertion_point_is_computed_as_the_loaders_did() -> None:
    """n x (depth / 100) in floating point: of 100 tokens at 29 percent, 28 stand in front, not 29."""
    haystack = Haystack(["x" * 100], Characters())
    context = row(haystack, 100 + len("\nThe key is blue.\n") + 10, 29)["context"]
    assert context.index("\n") == 28


def test_a_keyword_mark_inside_the_needle_is_refused() -> None:
    material = Material([{"text": "x"}], {"length": 10, "depth": 0}, Characters, {})
    with pytest.raises(ConfigError, match="may not hold"):
        build_needle(material, needle="a * b", question="?", keyword="b", buffer=0)


def test_a_short_haystack_says_so() -> None:
    haystack = Haystack(LINES, Characters())
    assert not row(haystack, 100)["short"]
    assert row(haystack, 1000)["short"]
    assert len(row(haystack, 1000)["context"]) == len("".join(LINES)) + len("\nThe key is blue.\n")


def test_shuffles_accumulate() -> None:
    first, second = Haystack(LINES, Characters()), Haystack(LINES, Characters())
    later = [row(first, 60, counter=c)["context"] for c in (0, 1, 2)]
    assert [row(second, 60, counter=c)["context"] for c in (2, 1, 0)] == later[::-1]
    assert len(set(later)) == 3


def test_each_line_is_encoded_once() -> None:
    tokenizer = Characters()
    haystack = Haystack(LINES, tokenizer)
    for length in (40, 80, 400):
        for depth in (0, 50):
            for counter in (0, 1):
                row(haystack, length, depth, counter)
    seen = [text for text in tokenizer.encoded if text in LINES]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("language", "guide", "question", "expected"),
    [
        ("English", True, "Why?", "Why?"),
        ("English", False, "Why?", "Why?"),
        (
            "English", True, "Where? Please answer in the format 'It is in ______.'",
            "Where? Before answering, please consider what in the document is most relevant to this question. "
            "Please answer in the format 'It is in ______.'",
        ),
        (
            "English", False, "Where? Please answer in the format 'It is in the ________.'",
            "Where? Before answering, please consider what in the document is most relevant to this question. "
            "It is in the ",
        ),
        (
            "Chinese", True, "哪里？请按照“在________。”的格式回答。",
            "哪里？在回答之前，请思考文档中与此问题最相关的内容是什么。请按照“在________。”的格式回答。",
        ),
        (
            "Chinese", False, "哪里？请按照'在________。'的格式回答。",
            "哪里？在回答之前，请思考文档中与此问题最相关的内容是什么。在",
        ),
    ],
)  # fmt: skip
def test_question(language: str, guide: bool, question: str, expected: str) -> None:
    assert question_for(question, language, guide) == expected


def test_lists_give_each_repeat_a_needle_of_its_own() -> None:
    material = Material([{"text": line} for line in LINES], {"length": 60, "depth": 50}, Characters, {})
    lists = {"needle": ["It is 1.", "It is 2."], "question": ["One?", "Two?"], "keyword": ["1", "2"]}
    rows = build_needle(material, **lists, buffer=10, repeats=3)
    assert [r["question"] for r in rows] == ["One?", "Two?", "One?"]
    assert [r["answer"] for r in rows] == ["\nIt is 1.\n*1", "\nIt is 2.\n*2", "\nIt is 1.\n*1"]
    assert all(f"\n{r['needle']}\n" in r["context"] for r in rows)
    with pytest.raises(ConfigError, match="differ in number"):
        build_needle(material, needle=["a", "b"], question="?", keyword=["a", "b"], buffer=0)
