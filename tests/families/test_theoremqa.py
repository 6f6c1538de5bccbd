"""TheoremQA (protocol sheet: theoremqa): prompts, answers by type, formulas, recorded outputs, own sample rows."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import BenchmarkHandle, load_benchmark
from evalkit.core.errors import ConfigError, DataError
from evalkit.scoring.extract import latex
from evalkit.scoring.extract.latex import LatexProcess, evaluated, number
from evalkit.scoring.extract.latex_child import MATHEMATICS, NOTHING, NoValueError, value_of
from evalkit.scoring.extract.theorem import without_units
from evalkit.scoring.metrics.theorem import matches
from tests.golden import check_golden, golden_lines
from tests.vectors import vectors

CONFIG = "TheoremQA_5shot_gen_6f0af8"
TOTAL = 800
PUBLISHED = 26.00
"""InternLM2-20B, base, in the published table."""


@pytest.fixture(scope="module")
def handle(shared: Path) -> BenchmarkHandle:
    return load_benchmark(CONFIG, shared / "data")


@pytest.fixture(scope="module")
def recorded(shared: Path) -> list[dict[str, Any]]:
    """Outputs of InternLM2-20B, as the dataset's authors published them."""
    file = shared / "recorded" / "theoremqa" / "internlm2_20b.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def test_prompts_equal_the_reference(shared: Path, handle: BenchmarkHandle) -> None:
    lines = golden_lines(shared, CONFIG)
    assert check_golden(handle, lines, lambda name: name) >= 8
    assert all(list(handle.benchmark.gen.stop) == line["stopping_criteria"] for line in lines)


def test_first_prompt_has_the_sheet_s_digests(handle: BenchmarkHandle) -> None:
    prompt = handle.render(handle.samples()[0], "base")
    assert isinstance(prompt, str) and len(prompt) == 4847
    expected = "897db2ad6c9187a26a0f4fe451e8cb15c00f33266ab5705eba98cd013fd87296"
    assert hashlib.sha256(prompt.encode()).hexdigest() == expected
    messages = json.dumps(handle.render(handle.samples()[0], "chat"), ensure_ascii=False, sort_keys=True)
    expected = "99448a699e693945d51128397ce792655c994eb2c4aa8adc857b9a3bf43ea705"
    assert hashlib.sha256(messages.encode()).hexdigest() == expected


def test_full_item_count_and_types(handle: BenchmarkHandle) -> None:
    samples = handle.samples()
    assert len(samples) == TOTAL
    golds = [(sample.gold, sample.row["Answer_type"]) for sample in samples]
    assert {gold for gold, kind in golds if kind == "bool"} == {"True", "False"}
    assert sum(kind.startswith("list of") for _, kind in golds) == 73


def test_extraction_vectors(shared: Path, handle: BenchmarkHandle) -> None:
    found = [(v, handle.extract(v["raw"])) for v in vectors(shared, "theoremqa_extract")]
    assert not [(v, answer) for v, answer in found if answer != v["extracted"]]
    assert len(found) >= 51


def test_score_vectors(shared: Path, handle: BenchmarkHandle) -> None:
    checked = 0
    for vector in vectors(shared, "theoremqa_score"):
        types = vector["answer_types"]
        score = handle.score(vector["predictions"], vector["references"], answer_types=types)
        assert score == vector["score"], vector
        checked += 1
    assert checked >= 18


def score_of(handle: BenchmarkHandle, outputs: list[str], **more: Any) -> float:
    samples = handle.samples()
    types = [sample.row["Answer_type"] for sample in samples]
    score = handle.score(outputs, [sample.gold for sample in samples], answer_types=types, **more)
    return float(score["score"])


def cut(handle: BenchmarkHandle, text: str) -> str:
    """An output as an engine gives it: ended at the config's stop strings."""
    for stop in handle.benchmark.gen.stop:
        text = text.partition(stop)[0]
    return text


def test_recorded_outputs_against_the_published_score(handle: BenchmarkHandle, recorded: list[dict[str, Any]]) -> None:
    """27.50 where 26.00 is published, and why.

    The outputs are the dataset authors' own run: of the same model, with another revision of the exemplars,
    and without a stop string. Most run on into problems of their own making behind the answer. Scored as they
    are, the last of those problems gives the answer: 19.75. Ended at `Problem`, as the published config ends
    generation, they reach 27.50. What is left are 12 of 800 items, which is within one standard error (1.6):
    the exemplars' revision changes what the model writes, and no output of the published run is at hand.
    """
    assert [s.row["Question"] for s in handle.samples()] == [row["question"] for row in recorded]
    raw = [row["solution"] for row in recorded]
    ended = [cut(handle, text) for text in raw]
    assert sum(a != b for a, b in zip(raw, ended, strict=True)) > TOTAL / 4
    assert round(score_of(handle, raw), 2) == 19.75
    score = score_of(handle, ended)
    assert round(score, 2) == 27.50
    assert abs(score - PUBLISHED) < (score * (100 - score) / TOTAL) ** 0.5


def test_recorded_extraction_differs_by_computed_roots_only(
    handle: BenchmarkHandle, recorded: list[dict[str, Any]]
) -> None:
    """791 of 800 answers are the authors'; in the other nine their revision also computes roots and logarithms.

    The published rule keeps such an answer as it is and computes it when it is compared, so both score alike.
    """
    ours = [handle.extract(row["solution"]) for row in recorded]
    theirs = [str(row["pred"]) for row in recorded]
    differing = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    assert len(differing) == 9
    for answer, value in differing:
        assert any(mark in answer for mark in ("\\sqrt", "\\log", "e^"))
        assert number(without_units(answer)) == pytest.approx(float(value), rel=1e-3)
    assert round(score_of(handle, theirs, extracted=True), 2) == 19.75


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 3\n\nProblem: x\nThe answer is 4", "3"),
        ("So the answer is (B) and not (a)", "False"),
        ("the answer is (B)/.", "(B)"),
        ("Thus yes, it is not", "True"),
        ("The answer is: x = 7", "7"),
        ("The answer is 7 m\n", "7"),
        ("The answer is 7.5 m/s", "7.5"),
        ("The answer is 12 square miles", "12"),
        ("The answer is 12 x 3", "12 x 3"),
        ("It is 3 or .25", ".25"),
        ("Hm", ""),
        ("The answer is \\sqrt{4}", "\\sqrt{4}"),
        ("The answer is 3/4.", "0.75"),
        ("The answer is 40\\%", "40\\/100"),
        ("The answer is 1 < 2", "True"),
    ],
)
def test_answers(text: str, answer: str) -> None:
    assert load_benchmark(CONFIG, "samples").extract(text) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "kind", "right"),
    [
        ("(B) because", "(b)", "option", True),
        ("b", "(b)", "option", False),
        ("6.5", "6", "integer", True),
        ("7.5", "7", "integer", False),
        ("TRUE", "true", "bool", True),
        ("1", "True", "bool", True),
        ("0.4", "False", "bool", True),
        ("2", "True", "bool", False),
        ("1.04", "1.0", "float", True),
        ("1.041", "1.0", "float", False),
        ("-1.03", "-1.0", "float", True),
        ("0.0001", "0.0", "float", False),
        ("0", "0.0", "float", True),
        ("\\pi", "3.14", "float", True),
        ("50%", "0.5", "float", True),
        ("[1, 2]", "[1, 2]", "list of integer", True),
        ("[1,2]", "[1, 2]", "list of integer", False),
        ("[1.5, 2]", "1.5", "float", True),
        ("nan", "1.0", "float", False),
        ("", "1", "integer", False),
    ],
)
def test_matching_by_type(answer: str, gold: str, kind: str, right: bool) -> None:
    assert matches(answer, gold, kind) is right


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2\\pi", "2*3.14"),
        ("\\pi/2", "3.14/2"),
        ("\\frac{\\pi}{2}", "\\frac{3.14}{2}"),
        ("}π", "}π"),
        ("$5 °C$", "5 "),
        ("5 C", "5"),
        ("¥5%", "5/100"),
    ],
)
def test_units(text: str, result: str) -> None:
    assert without_units(text) == result


def test_the_type_of_the_gold_must_be_known() -> None:
    handle = load_benchmark(CONFIG, "samples")
    with pytest.raises(DataError, match="type of the gold is not known"):
        handle.score(["The answer is 1"], ["1"])
    assert handle.score(["The answer is 1"], ["1"], row={"Answer_type": "integer"}) == {"score": 100.0}


@pytest.mark.parametrize(
    ("formula", "value", "result"),
    [
        ("\\frac{1}{2}", "0.5", 0.5),
        ("1, 2", "[1, 2]", 1),
        ("2^{10}", "1024", 1024),
        ("\\sqrt{2}", None, pytest.approx(2**0.5)),
        ("3!", None, 6),
        ("e^2", None, pytest.approx(7.389, rel=1e-3)),
        ("(1, 2)", None, 1),
        ("x", None, None),
        ("", None, None),
        ("\\frac{1}{0}", None, None),
    ],
)
def test_formulas(formula: str, value: str | None, result: float | None) -> None:
    assert evaluated(formula) == value
    assert number(formula) == result


def test_a_formula_without_end_is_given_up_and_the_next_one_read() -> None:
    for endless in ("9^{9^{9^{9}}}", "10^{10}!"):
        assert evaluated(endless) is None
        assert number(endless) is None
    assert evaluated("1 + 1") == "2"


def test_hostile_formulas_have_no_value() -> None:
    for text in ("(" * 3000, "\\frac{" * 2000, "{" * 2000 + "1" + "}" * 2000):
        assert evaluated(text) is None
    assert evaluated("2 + 3") == "5"


@pytest.mark.parametrize(
    "source", ["__import__('os').getpid()", "().__class__", "[x for x in (1,)]", "print(1)", "sqrt(x=4)", "lambda: 1"]
)
def test_nothing_but_arithmetic_is_evaluated(source: str) -> None:
    for names in (NOTHING, MATHEMATICS):
        with pytest.raises(NoValueError):
            value_of(source, names)


def test_a_fork_gets_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LatexProcess()
    assert reader.ask("evaluate", "2*3") == "6"
    first = reader._process
    assert reader.ask("evaluate", "2*4") == "8" and reader._process is first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert reader.ask("evaluate", "2*5") == "10" and reader._process is not first
    for process in (first, reader._process):
        assert process is not None
        process.kill()
        process.communicate()


def test_a_missing_parser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latex.sys, "executable", "/bin/echo")
    with pytest.raises(ConfigError, match="formulas cannot be read"):
        LatexProcess().ask("evaluate", "1")


def test_own_sample_rows() -> None:
    handle = load_benchmark(CONFIG, "samples")
    handle.task.check()
    samples = handle.samples()
    assert {s.row["Answer_type"] for s in samples} == {
        "integer", "float", "bool", "list of integer", "list of float", "option",
    }  # fmt: skip
    golds, types = [s.gold for s in samples], [s.row["Answer_type"] for s in samples]
    said = [f"Some work.\nThe answer is {gold}" for gold in golds]
    assert handle.score(said, golds, answer_types=types) == {"score": 100.0}
    assert handle.score(["The answer is -9"] * len(golds), golds, answer_types=types) == {"score": 0.0}
    prompt = handle.render(samples[0], "base")
    assert isinstance(prompt, str) and prompt.count("Problem:") == 6 and prompt.endswith("\nSolution:")
    messages = handle.render(samples[0], "chat")
    assert isinstance(messages, list) and len(messages) == 11
    assert all(m["content"].endswith("Solution:\n") for m in messages if m["role"] == "user")
