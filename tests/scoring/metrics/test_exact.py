"""Accuracy, as text and as a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalkit.core.calls import parse_calls
from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics import Tools, make_metric
from tests.scoring.metrics.cases import case, score
from tests.vectors import vectors

GSM8K = NamedCall("numeric_accuracy", {"gold": ["gsm8k_gold"]})


def test_mmlu_vectors(shared: Path) -> None:
    for line in vectors(shared, "mmlu_score"):
        found = score(make_metric(NamedCall("accuracy")), line["predictions"], line["references"])
        assert found == pytest.approx(line["score"])


def test_gsm8k_vectors(shared: Path) -> None:
    steps = parse_calls([{"before": "Question:"}, {"last_number": {"none": "NULL"}}])
    for line in vectors(shared, "gsm8k_score"):
        answers = [extract(text, steps, {}) for text in line["predictions"]]
        assert score(make_metric(GSM8K), answers, line["references"]) == pytest.approx(line["score"])


def test_accuracy_is_identity() -> None:
    assert score(make_metric(NamedCall("accuracy")), ["A", "a", "A ", ""], ["A", "A", "A", "A"]) == {"accuracy": 25.0}


def test_arguments_clean_the_gold_and_name_the_result() -> None:
    metric = make_metric(NamedCall("accuracy", {"gold": [{"after": "#"}, "strip"], "name": "exact"}))
    assert (metric.name, score(metric, ["x"], ["so # x "])) == ("exact", {"exact": 100.0})


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("5", "#### 5", 1.0),
        ("5.0000001", "#### 5", 1.0),
        ("5.00001", "#### 5", 0.0),
        ("５", "#### 5", 1.0),
        ("2.5", "#### 2.5", 1.0),
        ("2.50", "#### 2.5", 0.0),
        ("NULL", "#### 5", 0.0),
        ("9" * 400, "#### " + "9" * 401, 0.0),
        ("1", "#### " + "9" * 5000, 0.0),
    ],
)
def test_numbers(answer: str, gold: str, right: float) -> None:
    assert make_metric(GSM8K).judge([case(answer, gold)], Tools()) == [{"value": right}]


def test_no_samples_give_no_result() -> None:
    assert make_metric(NamedCall("accuracy")).combine([]) == {}


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("acuracy", {}, ["unknown metric 'acuracy'", "accuracy"]),
        ("accuracy", {"glod": []}, ["metric 'accuracy' has no argument 'glod'", "gold"]),
        ("accuracy", {"gold": ["gsm8k_glod"]}, ["unknown extraction step", "gsm8k_gold"]),
        ("pass_at_k", {"k": [0]}, ["positive whole numbers"]),
        ("pass_at_k", {"k": []}, ["positive whole numbers"]),
        ("evaluate:bleu", {"sclae": 1}, ["'evaluate:bleu' has no argument 'sclae'", "scale"]),
        ("evaluate:bleu", {"convert": "itn"}, ["cannot convert to 'itn'", "int"]),
    ],
)
def test_wrong_names_and_arguments(name: str, args: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_metric(NamedCall(name, args))
    for word in words:
        assert word in str(caught.value)
