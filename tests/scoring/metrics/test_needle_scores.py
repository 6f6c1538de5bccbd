"""Needle scores: keyword, similarity, trimming, and a fast edit distance."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from evalkit.core.records import NamedCall
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.metrics.needle import distance, trimmed
from tests.scoring.metrics.cases import case, score
from tests.vectors import vectors

METRICS = {
    "niah_v1_single": "needle_v1",
    "niah_v2_single": "needle_v2",
    "niah_cdme_single": "needle_cdme",
    "niah_cdme_single_trim": "needle_cdme_trim",
}
NEEDLE = "\nSit in Dolores Park on a sunny day.\n*Dolores Park"


@pytest.mark.parametrize("config", METRICS)
def test_vectors(shared: Path, config: str) -> None:
    """Of the scores with one needle; the others follow."""
    lines = [line for line in vectors(shared, "niah_score") if line["config"].split()[0] == config]
    assert lines
    metric = make_metric(NamedCall(METRICS[config]))
    for line in lines:
        found = score(metric, line["predictions"], line["references"])
        assert found == {"score": pytest.approx(line["score"], abs=1e-9)}


def test_vectors_of_several_needles(shared: Path) -> None:
    lines = vectors(shared, "niah_score")
    read = 0
    for line in lines:
        config, answers, expected = line["config"].split()[0], line["predictions"], line["score"]
        if config == "niah_multi_retrieval/parallel":
            wanted = {key.replace("average_score", "score"): pytest.approx(value) for key, value in expected.items()}
            assert score(make_metric(NamedCall("needle_retrieval")), answers, line["references"]) == wanted
        elif config == "niah_v1_multi_reasoning":
            found = score(make_metric(NamedCall("needle_words")), answers, line["references"])
            assert found == {"score": pytest.approx(expected)}
        elif config == "needlebench_v2":
            read_out = [extract(text, (NamedCall("boxed_text"),), {}) for text in answers]
            assert read_out == line["postprocessed"]
            found = score(make_metric(NamedCall("accuracy")), read_out, line["references"])
            assert found == {"accuracy": pytest.approx(expected)}
        else:
            assert config in METRICS
            continue
        read += 1
    assert read == 12


@pytest.mark.parametrize(
    ("metric", "gold"),
    [
        ("needle_retrieval", "Paris*Tokyo#0"), ("needle_retrieval", "Paris"), ("needle_retrieval", "*Rome#0*5"),
        ("needle_retrieval", "a*b#5*5"), ("needle_words", "Paris"),
    ],
)  # fmt: skip
def test_golds_of_several_needles_are_checked(metric: str, gold: str) -> None:
    assert make_metric(NamedCall(metric)).check_gold(case("", gold))


@pytest.mark.parametrize(
    ("metric", "answer", "expected"),
    [
        ("needle_v1", "In Dolores Park.", 100.0),
        ("needle_v1", "in dolores park", 0.2 * 100 * (1 - 17 / 28)),
        ("needle_v1", "", 0.0),
        ("needle_v2", "In Dolores Park.", 100.0),
        ("needle_v2", "Dolores  Park", 0.0),
        ("needle_cdme", "Sit in Dolores Park\non a sunny day.", 100.0),
        ("needle_cdme_trim", "Sit in Dolores Park on a sunny day. Or stay.", 100.0),
    ],
)
def test_score(metric: str, answer: str, expected: float) -> None:
    assert score(make_metric(NamedCall(metric)), [answer], [NEEDLE]) == {"score": pytest.approx(expected)}


def test_two_empty_texts_are_alike() -> None:
    assert score(make_metric(NamedCall("needle_cdme")), [" "], ["\n\n"]) == {"score": 100.0}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("abcdefghijklmnop", "abcdefghij"),  # cut behind the needle's last character
        ("abcdefghxyzuvw", "abcdefghxyzu"),  # which does not come: cut to 12
        ("abcj", "abcj"),
        ("jjjjjjjjjj", "jjjjjjjjj"),
    ],
)
def test_trim(said: str, expected: str) -> None:
    assert trimmed(said, "abcdefghij") == expected


def table_distance(a: str, b: str) -> int:
    """The textbook table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def test_distance_equals_the_table() -> None:
    draw = random.Random(5)
    for size in (0, 1, 3, 10, 70, 140):
        for _ in range(60):
            a, b = ("".join(draw.choices("abé上", k=draw.randint(0, size))) for _ in range(2))
            assert distance(a, b) == distance(b, a) == table_distance(a, b)


def test_distance_of_long_texts_is_fast() -> None:
    started = time.perf_counter()
    assert distance("x" * 20_000, "y" * 200) == 20_000
    assert time.perf_counter() - started < 60, "a hang, not a slow machine"
