"""RULER's generator: what is asked for is really there, lengths are kept, seeds decide."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall
from evalkit.data.sources import SAMPLES
from evalkit.engines.tokenizer import load_tokenizer
from evalkit.prompts.builders.base import Material
from evalkit.prompts.builders.ruler import OUTPUT, TASKS, build_ruler
from evalkit.scoring.metrics import make_metric
from tests.chartokenizer import CharTokenizer
from tests.prompts.test_needlebench import task as task_of
from tests.scoring.metrics.cases import score

ESSAYS = [
    json.loads(line)
    for line in (SAMPLES / "opencompass/NeedleBench/PaulGrahamEssays.jsonl").read_text(encoding="utf-8").splitlines()
]
QUESTIONS = [
    {"context": f"The {place} lies in the north. It was built by {name} in {year}. Many visit it. " * 4,
     "question": f"Who built the {place}?", "answers": {"text": [name, name, f"{name} himself"]}}
    for place, name, year in (("tower", "Osric", 1511), ("mill", "Hedda", 1620), ("bridge", "Lorin", 1713))
]  # fmt: skip
NEEDLES = [name for name in TASKS if name.startswith("niah")]


def rows(task: str, length: int, tokenizer: Any = None, repeats: int = 3, **more: Any) -> list[dict[str, Any]]:
    read = QUESTIONS if task.startswith("qa_") else ESSAYS
    made = Material(read, {"task": task, "length": length}, lambda: tokenizer or CharTokenizer(), {})
    return [dict(row) for row in build_ruler(made, repeats=repeats, **more)]


@pytest.mark.parametrize("task", TASKS)
def test_lengths_are_kept_within_a_hundredth(task: str) -> None:
    for length in (20_000, 60_000):
        for row in rows(task, length, repeats=2):
            used = len(row["prompt"]) + OUTPUT.get(task, 128)
            assert 0.99 * length <= used <= length, used


def test_lengths_in_tokens_of_a_real_tokenizer(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    for task in ("niah_single_2", "vt", "cwe"):
        (row,) = rows(task, 8192, tokenizer, repeats=1)
        used = len(tokenizer.encode(row["prompt"])) + OUTPUT.get(task, 128)
        assert 0.99 * 8192 <= used <= 8192, task


@pytest.mark.parametrize("task", NEEDLES)
def test_needles_are_really_there(task: str) -> None:
    """Each value stands behind the key that is asked for, once, and nothing else does."""
    for row in rows(task, 20_000, repeats=6):
        text, question = row["prompt"].rsplit("\nWhat ", 1)
        facts = re.findall(r"One of the special magic \w+ for ([\w-]+) is: ([\w-]+)\.", text)
        keys = re.split(r", and |, ", re.findall(r" for (.+?) mentioned in the provided text\?", question)[0])
        assert Counter(value for key, value in facts if key in keys) == Counter(row["answers"])
        counts = {"niah_multiquery": (4, 4), "niah_multivalue": (1, 4)}.get(task, (1, 1))
        assert (len(keys), len(row["answers"])) == counts
        others = len(facts) - len(row["answers"])
        among = {"niah_multikey_1": 3, "niah_multikey_2": None, "niah_multikey_3": None}.get(task, 0)
        assert others > 100 if among is None else others == among


def test_places_are_spread() -> None:
    made = rows("niah_single_1", 8000, repeats=40)
    at = [row["prompt"].index("One of the special") / len(row["prompt"]) for row in made]
    assert min(at) < 0.2 and max(at) > 0.8


def test_variables_lead_to_the_value() -> None:
    for row in rows("vt", 20_000):
        text, question = row["prompt"].split("\nQuestion: ")
        wanted = re.findall(r"assigned the value (\d+) in", question)[0]
        values: dict[str, str] = {}
        for name, other in re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", text):
            values[name] = values.get(other, other)
        assert [name for name, value in values.items() if value == wanted] == row["answers"] and len(values) == 5


def test_common_words_are_the_most_common() -> None:
    for row in rows("cwe", 20_000):
        words = re.findall(r"\d+\. (\w+)", row["prompt"].split("\nQuestion")[0])
        counts = Counter(words).most_common()
        assert {word for word, n in counts[:10]} == set(row["answers"])
        assert counts[9][1] == 30 and counts[10][1] == 3


def test_frequent_words_are_the_most_frequent() -> None:
    for row in rows("fwe", 20_000):
        text = row["prompt"].split("\nQuestion")[0].split("coded words. ")[1]
        counts = Counter(word for word in text.split() if word != "....").most_common(4)
        assert [word for word, _ in counts[:3]] == row["answers"]
        assert all(a > b for (_, a), (_, b) in itertools.pairwise(counts))


def test_the_document_that_answers_is_among_the_others() -> None:
    for row in rows("qa_1", 20_000, repeats=8):
        place = re.findall(r"Question: Who built the (\w+)\?", row["prompt"])[0]
        assert f"The {place} lies in the north. It was built by {row['answers'][0]} in" in row["prompt"]
        assert len(row["answers"]) == 2 and row["prompt"].count("Document ") > 3
    sentences = [["One.", "Two."], ["Three."]]
    hotpot = [
        {"context": {"title": ["a", "b"], "sentences": sentences}, "question": "q", "answer": "Two"},
        {"context": {"title": ["c"], "sentences": [["Four."] * 9]}, "question": "r", "answer": "Four"},
    ]
    made = Material(hotpot, {"task": "qa_2", "length": 2000}, CharTokenizer, {})
    assert {row["answers"][0] for row in build_ruler(made, repeats=12)} == {"Two", "Four"}


def test_a_seed_decides_the_rows() -> None:
    assert rows("niah_single_2", 9000) == rows("niah_single_2", 9000)
    assert rows("niah_single_2", 9000) != rows("niah_single_2", 9000, seed=1)
    assert len({row["prompt"] for row in rows("niah_single_1", 9000)}) == 3


def test_faults() -> None:
    with pytest.raises(DataError, match="too few: the shortest prompt has"):
        rows("cwe", 500)
    with pytest.raises(ConfigError, match="unknown task 'niah'"):
        rows("niah", 500)


def test_the_config_and_its_scores() -> None:
    made = task_of("ruler_gen", "data.lengths=[12000]", "data.build.ruler.repeats=2")
    assert len(made.benchmark.members) == 13
    assert made.samples("vt-12000")[0].gold and made.part("vt-12000").gen.max_out_len == 30
    assert made.part("qa_1-12000").data.path == "rajpurkar/squad"
    match = make_metric(NamedCall("ruler_match"))
    assert score(match, ["amber and BRISK"], [["Amber", "brisk", "calm", "dusty"]]) == {"score": 50.0}
    assert score(make_metric(made.part("qa_2-12000").metric), ["It is Two"], [["one", "two"]]) == {"score": 100.0}
