"""L-Eval's scores: the published vectors, the bootstrap of rouge-score, cleaning of answers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from evalkit.configs.catalog import open_catalog
from evalkit.core.records import Benchmark, NamedCall
from evalkit.data.files import DataRoot
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.task import Task
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.metrics.leval import KINDS, bootstrap_middle
from tests.chartokenizer import CharTokenizer
from tests.scoring.metrics.cases import case, score
from tests.vectors import vectors

TASKS = {"leval_quality/tpo": "tpo", "leval_topic_retrieval": "topic_retrieval_longchat", "leval_coursera": "coursera",
         "leval_gsm100": "gsm100"}  # fmt: skip


def config(name: str) -> Benchmark:
    catalog = open_catalog()
    return load_benchmark_config(catalog.files("dataset_configs")[name][0], catalog)


def part(task: str) -> Benchmark:
    """The exam config as it is for one task."""
    exam = config("leval_exam_gen")
    (member,) = [m for m in exam.members if m.name == task]
    return exam.part(member.variables)


def test_vectors(shared: Path) -> None:
    """Every line, with the steps and the metric that the configs name."""
    pytest.importorskip("rouge_score", reason="rouge-score is not installed")
    for line in vectors(shared, "leval_score"):
        answers, golds = line["predictions"], line["references"]
        if line["config"].startswith("leval open-ended"):
            found = score(make_metric(config("leval_generation_gen").metric), answers, golds)
            assert {k: found[k] for k in KINDS} == pytest.approx(line["score"], abs=1e-9)
            continue
        task = part(TASKS[line["config"].split()[0]])
        cleaned = [extract(text, task.extract, {}) for text in answers]
        assert cleaned == line.get("postprocessed", cleaned)
        assert score(make_metric(task.metric), cleaned, golds) == {"accuracy": pytest.approx(line["score"])}


def test_the_bootstrap_is_rouge_scores() -> None:
    numpy = pytest.importorskip("numpy")
    scoring = pytest.importorskip("rouge_score.scoring", reason="rouge-score is not installed")
    draw = random.Random(3)
    columns = {kind: [draw.random() for _ in range(23)] for kind in KINDS}
    before = numpy.random.get_state()[1].copy()
    found = bootstrap_middle(columns)
    assert (numpy.random.get_state()[1] == before).all(), "nobody else's random numbers change"
    numpy.random.seed(0)
    aggregator = scoring.BootstrapAggregator()
    for index in range(23):
        aggregator.add_scores({kind: scoring.Score(0.0, 0.0, columns[kind][index]) for kind in KINDS})
    expected = {kind: value.mid.fmeasure for kind, value in aggregator.aggregate().items()}
    assert found == pytest.approx(expected, abs=1e-12)
    assert found["rouge1"] != pytest.approx(sum(columns["rouge1"]) / 23, abs=1e-9)


def test_geometric_mean_of_plain_means() -> None:
    pytest.importorskip("rouge_score", reason="rouge-score is not installed")
    found = score(make_metric(NamedCall("leval_rouge")), ["the cat sat on the mat"], ["the cat is on the mat"])
    assert found["geometric"] == pytest.approx((5 / 6 * 0.6 * 5 / 6) ** (1 / 3) * 100)
    assert make_metric(NamedCall("leval_rouge")).check_gold(case("", "。。。")).endswith("that ROUGE reads")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("The answer is $1,430. Yes", "1430"), ("The answer is 3.50", "350"), ("The answer is\n7", "7"),
     ("It is 7", ""), ("The answer is -4. The answer is 5", "4"), ("The answer is none", "")],
)  # fmt: skip
def test_gsm100(text: str, answer: str) -> None:
    assert extract(text, (NamedCall("gsm100_answer"),), {}) == answer


@pytest.mark.parametrize(
    ("answer", "gold", "value"), [("AB", "AB", 100), ("A", "AB", 25), ("AC", "AB", 0), ("", "A", 0), ("ABC", "AB", 0)]
)
def test_letters_of_the_own_script(answer: str, gold: str, value: float) -> None:
    assert score(make_metric(NamedCall("leval_letters")), [answer], [gold]) == {"accuracy": value}
    assert extract("B, then A", (NamedCall("letters_of"),), {}) == "AB"
    assert extract("none", (NamedCall("letters_of"),), {}) == "A"


COUNTS = {
    "coursera": 172, "gsm100": 100, "quality": 202, "tpo": 269, "topic_retrieval_longchat": 150, "sci_fi": 64,
    "financial_qa": 68, "gov_report_summ": 14, "legal_contract_qa": 154, "meeting_summ": 177, "multidoc_qa": 158,
    "natural_question": 109, "news_summ": 12, "paper_assistant": 69, "patent_summ": 14, "review_summ": 144,
    "scientific_qa": 184, "tv_show_summ": 14,
}  # fmt: skip


def test_all_tasks_of_the_public_repository(shared: Path) -> None:
    pytest.importorskip("rouge_score", reason="rouge-score is not installed")
    root = DataRoot(shared / "data")
    made: dict[str, Any] = {}
    for name in ("leval_exam_gen", "leval_generation_gen"):
        task = Task(config(name), root, CharTokenizer)
        task.check()
        made |= {subset: task.samples(subset) for subset in task.subsets}
        prompts = [task.render(task.samples(subset)[0], "chat").turns or () for subset in task.subsets]
        assert all([turn.role for turn in turns] == ["system", "user"] for turns in prompts)
        assert len(task.absent) == 1
    assert {subset: len(samples) for subset, samples in made.items()} == COUNTS
    assert {s.gold for s in made["quality"]} == set("ABCD") and {s.gold for s in made["sci_fi"]} == {"true", "false"}
    question = made["natural_question"][0].row
    assert question["length"] == len(question["answer"].split())
