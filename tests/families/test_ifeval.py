"""IFEval (protocol sheet: ifeval): the prompt, the 25 checks, strict and loose, sentences and words."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.api import load_benchmark
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.metrics import Case, Tools, Values, make_metric
from evalkit.scoring.metrics.ifeval import formats
from evalkit.scoring.metrics.ifeval.base import CHECKS
from evalkit.scoring.metrics.ifeval.language import detected
from evalkit.scoring.metrics.ifeval.score import follows, variants
from evalkit.scoring.metrics.ifeval.sentences import sentences, words
from evalkit.scoring.score import SubsetResult
from tests.golden import check_line, golden_lines
from tests.vectors import vectors

CONFIG = "IFEval_gen_3321a3"
RESULTS = [
    "Prompt-level-strict-accuracy",
    "Inst-level-strict-accuracy",
    "Prompt-level-loose-accuracy",
    "Inst-level-loose-accuracy",
]
INSTRUCTIONS = 834


def judged(response: str, gold: dict[str, Any]) -> Values:
    """The metric's verdicts on one response."""
    metric = make_metric(load_benchmark(CONFIG).benchmark.metric)
    return metric.judge([Case("IFEval/0", 0, response, gold, {}, {})], Tools())[0]


def gold_of(name: str, **arguments: Any) -> dict[str, Any]:
    return {"instruction_id_list": [name], "kwargs": [arguments]}


def is_followed(name: str, response: str, **arguments: Any) -> bool:
    return follows(response, NamedCall(name, arguments))


def test_prompts_equal_the_reference(shared: Path) -> None:
    handle, lines = load_benchmark(CONFIG, shared / "data"), golden_lines(shared, CONFIG)
    assert len(lines) == 8
    for line, sample in zip(lines, handle.samples(), strict=False):
        assert sample.index == line["index"]
        # The hub's rows name every argument, with null where it does not belong to the instruction.
        kwargs = [{k: v for k, v in given.items() if v is not None} for given in line["gold"]["kwargs"]]
        assert sample.gold == {**line["gold"], "kwargs": kwargs}
        check_line(handle, sample, line)


def test_counts_and_instructions(shared: Path) -> None:
    samples = load_benchmark(CONFIG, shared / "data").samples()
    names = [name for s in samples for name in s.gold["instruction_id_list"]]
    assert (len(samples), len(names), len(set(names))) == (541, INSTRUCTIONS, 25)
    assert set(names) == set(CHECKS)


def test_every_instruction_of_the_data_can_be_checked(shared: Path) -> None:
    handle = load_benchmark(CONFIG, shared / "data")
    samples = handle.samples()
    scores = handle.score(["Thank you, Dr. Lee."] * len(samples), [s.gold for s in samples])
    assert list(scores) == RESULTS
    assert 0 < scores[RESULTS[0]] < scores[RESULTS[1]] <= scores[RESULTS[3]] < 100
    assert handle.score([""], [samples[0].gold]) == dict.fromkeys(RESULTS, 0.0)


def test_vectors(shared: Path) -> None:
    handle, lines = load_benchmark(CONFIG), list(vectors(shared, "ifeval_score"))
    assert len(lines) == 139
    for vector in lines:
        values = judged(vector["response"], vector)
        assert (values["strict"], values["loose"]) == (vector["strict"], vector["loose"]), vector
        expected = {}
        for mode in ("strict", "loose"):
            expected[f"Prompt-level-{mode}-accuracy"] = 100.0 * all(vector[mode])
            expected[f"Inst-level-{mode}-accuracy"] = 100.0 * sum(vector[mode]) / len(vector[mode])
        assert handle.score([vector["response"]], [vector]) == pytest.approx(expected)


def test_row_is_the_strict_accuracy_of_prompts() -> None:
    benchmark = load_benchmark(CONFIG).benchmark
    results = {
        "IFEval": SubsetResult("IFEval", (), dict(zip(RESULTS, (1.0, 2.0, 3.0, 4.0), strict=True)), 1, 1, None, 0)
    }
    scores = scores_of("m", benchmark, results, ["IFEval"], {})
    assert [(s.row, s.metric, s.value) for s in scores] == [
        ("IFEval", name, value) for name, value in zip(RESULTS, (1.0, 2.0, 3.0, 4.0), strict=True)
    ]


def test_prompts_and_instructions_are_counted_apart() -> None:
    both = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, None]}
    one = gold_of("punctuation:no_comma")
    scores = load_benchmark(CONFIG).score(['"yes"', "no", "*,*\nno"], [both, both, one])
    assert list(scores.values()) == pytest.approx([100 / 3, 60, 200 / 3, 80])


@pytest.mark.parametrize(
    ("name", "arguments", "good", "bad"),
    [
        ("keywords:existence", {"keywords": ["ink", "Pen"]}, "thinking of a pen", "a pen"),
        ("keywords:frequency", {"keyword": " an ", "frequency": 2.0, "relation": "at least"}, "Banana", "Ann"),
        ("keywords:frequency", {"keyword": "an", "frequency": 2, "relation": "less than"}, "Ann", "banana"),
        ("keywords:forbidden_words", {"forbidden_words": ["law"]}, "lawful", "the LAW."),
        ("keywords:letter_frequency", {"letter": "E", "let_frequency": 2, "let_relation": "at least"}, "eE", "e"),
        ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "less than"}, "a", "#"),
        (
            "language:response_language",
            {"language": "fr"},
            "Il fait très beau aujourd'hui à Paris.",
            "Es regnet heute.",
        ),
        ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "I am. So.", "Mr. X is"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "it's", "it's so"),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***a\n***\nb***", "a***\n***b"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2.0, "nth_paragraph": 2.0, "first_word": "Hope"},
            "a\n\n'\"hope's b",
            "a\n\n\n\nhope b",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a][b]", "[a\nb] [c]"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "x p. s. y", "PS: y"),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "x p. p.s y", "P.S."),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n\n - b\n**c**", "* a"),
        ("detectable_format:constrained_response", {}, "so: My answer is no. Yes", "my answer is no."),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "***a***", "**a** * *"),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": " Day", "num_sections": 2},
            "Day 1Day2",
            "day 1 Day 2",
        ),
        ("detectable_format:json_format", {}, "```JSON\n[NaN]\n```", "[" * 100_000),
        ("detectable_format:title", {}, "a <<b>>", "<<\nb>> << >>"),
        ("combination:two_responses", {}, "******a******b", "a************b"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Do it "}, "\ndo IT now", "I do it"),
        ("startend:end_checker", {"end_phrase": "Bye. "}, 'so "bye."\n', "bye. x"),
        ("startend:quotation", {}, ' "a" ', '"'),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            "I D-E",
            "A-b C",
        ),
        ("change_case:english_capital", {}, "THE WEATHER IN THE TOWN IS GOOD", "DAS WETTER IST HEUTE SCHÖN"),
        ("change_case:english_lowercase", {}, "the weather in the town is good", "The weather is good"),
        ("punctuation:no_comma", {}, "a，b", "a, b"),
    ],
)
def test_each_check(name: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    assert is_followed(name, good, **arguments)
    assert not is_followed(name, bad, **arguments)


def test_texts_without_letters_have_any_language() -> None:
    assert detected("1 2 3 !") == ""
    assert is_followed("language:response_language", "123", language="hi")
    assert not is_followed("change_case:english_capital", "123")


def test_language_does_not_vary() -> None:
    found = set()
    for _ in range(20):
        detected.cache_clear()
        found.add(detected("on no si da"))
    assert len(found) == 1


def test_loose_variants() -> None:
    assert list(variants("*a*\nb\nc")) == ["*a*\nb\nc", "a\nb\nc", "b\nc", "b\nc", "*a*\nb", "a\nb", "b", "b"]
    gold = gold_of("startend:quotation")
    assert judged('Sure:\n*"x"*', gold)["loose"] == [True]
    assert judged('Sure:\n*"x"*', gold)["strict"] == [False]
    assert judged("*\n*", gold_of("punctuation:no_comma"))["strict"] == [True]
    assert judged(" \n ", gold_of("punctuation:no_comma"))["loose"] == [False]


def test_bullets_count_as_in_the_published_pattern() -> None:
    draw = random.Random(7)
    for _ in range(3000):
        text = "".join(draw.choice("*-\n \ta") for _ in range(draw.randint(0, 14)))
        stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
        dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
        assert len(formats.STAR_BULLET.findall(text)) == len(stars), repr(text)
        assert len(formats.DASH_BULLET.findall(text)) == len(dashes), repr(text)
    start = time.perf_counter()
    assert not is_followed("detectable_format:number_bullet_lists", "\n" * 100_000, num_bullets=1)
    assert time.perf_counter() - start < 60, "a hang, not a slow machine"


@pytest.mark.parametrize(
    "cut",
    [
        ["Dr. Smith met J. K. Lee at 5 p.m. in the U.S. Army.", "He left."],
        ["1.", "First of all, etc.", "Then more.", "2. second"],
        ["Wow!!!", "(Really?)", "Yes... and so on."],
        ["It ends so!!", "!"],
        # NLTK 3.8 sees no end of a sentence in front of a curly quote.
        ['A "quote."', "B’s end.’ So “Go.” She went."],
        [],
    ],
)
def test_sentences(cut: list[str]) -> None:
    assert sentences(" ".join(cut).replace("so!! !", "so!!!")) == cut


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I can't — NOT—EVER.", ["I", "ca", "n't", "—", "NOT—EVER", "."]),
        ('He said "NO," *twice*.', ["He", "said", "``", "NO", ",", "''", "*", "twice", "*", "."]),
        ("A-B 'tis “X”", ["A-B", "'t", "is", "“", "X", "”"]),
    ],
)
def test_words(text: str, tokens: list[str]) -> None:
    assert words(text) == tokens


def test_broken_golds_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown instruction 'punctuation:no_coma'"):
        judged("a", gold_of("punctuation:no_coma"))
    with pytest.raises(ConfigError, match="needs the argument 'end_phrase'"):
        judged("a", gold_of("startend:end_checker", end_phrase=None))
    with pytest.raises(DataError, match="no list of instructions"):
        judged("a", {"key": 1})
    with pytest.raises(DataError, match="1 instructions, 0 `kwargs`"):
        judged("a", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": []})
    with pytest.raises(DataError, match="malformed keyword"):
        judged("a", gold_of("keywords:existence", keywords=["("]))


def test_nulls_and_whole_floats_of_the_hub(tmp_path: Path) -> None:
    row = {"key": 1, "prompt": "Use {reference} 3 words.", "instruction_id_list": ["length_constraints:number_words"]}
    row["kwargs"] = [{"num_words": 3.0, "relation": "at least", "keywords": None}]
    folder = tmp_path / "google" / "IFEval"
    folder.mkdir(parents=True)
    (folder / "ifeval_input_data.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    handle = load_benchmark(CONFIG, tmp_path)
    sample = handle.samples()[0]
    assert handle.render(sample, "chat") == [{"role": "user", "content": "Use  3 words.\n"}]
    assert handle.score(["a b c"], [sample.gold]) == dict.fromkeys(RESULTS, 100.0)


def test_sample_rows() -> None:
    handle = load_benchmark(CONFIG, "samples", kind="chat")
    handle.task.check()
    samples = handle.samples()
    good = [
        "<<Grey Harbour>>\nRain falls.",
        "* Heat the oven.\n* Keep the oven hot.\n* Wait.",
        "i like the quiet autumn because the woods are red and the evenings are long and warm inside.",
        '{"planets": ["Mars", "Venus", "Earth"]}',
        '"Old maps are drawn by hand.\n***\nThey fade."',
        "Die Uhr tickt, weil die Hemmung das Pendel im Takt anhält und wieder freigibt.",
        "Dear [name], it rains. The sea is grey. We think of you. Come to [town].\nP.S. Bring oil.",
        "Two wheels are enough.\n******\nRide on.",
    ]
    golds = [s.gold for s in samples]
    assert handle.score(good, golds) == dict.fromkeys(RESULTS, 100.0)
    assert handle.score(good[1:] + good[:1], golds)[RESULTS[0]] == 0.0
