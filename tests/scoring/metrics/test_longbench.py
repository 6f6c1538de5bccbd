"""LongBench's scores and config: the published vectors, the packages that they come from, rows of our own."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.configs.catalog import open_catalog
from evalkit.core import stats
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, NamedCall
from evalkit.data.files import DataRoot
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.task import Task
from evalkit.scoring.aggregate import scores_of, weights_of
from evalkit.scoring.extract import extract
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.metrics.longbench import class_score, common_length, rouge_l, similarity
from evalkit.scoring.score import SubsetResult
from tests.chartokenizer import CharTokenizer
from tests.scoring.metrics.cases import case, score
from tests.vectors import vectors

TASKS = {
    "qa_f1_en": "qasper", "multifieldqa_zh": "multifieldqa_zh", "rouge_l_en": "gov_report", "samsum": "samsum",
    "rouge_l_zh": "vcsum", "code_sim": "lcc", "trec/lsht": "trec", "passage_count": "passage_count",
    "passage_retrieval_en": "passage_retrieval_en", "passage_retrieval_zh": "passage_retrieval_zh",
    "triviaqa": "triviaqa", "classification": "trec",
}  # fmt: skip


def config(name: str = "longbench_gen") -> Benchmark:
    catalog = open_catalog()
    return load_benchmark_config(catalog.files("dataset_configs")[name][0], catalog)


def test_vectors(shared: Path) -> None:
    """Every line, with the steps and the metric that the config names."""
    pytest.importorskip("jieba", reason="jieba is not installed")
    benchmark = config()
    for line in vectors(shared, "longbench_score"):
        task = benchmark.part({"task": TASKS[line["config"].split()[0]]})
        cleaned = [extract(text, task.extract, {}) for text in line["predictions"]]
        assert cleaned == line.get("postprocessed", cleaned)
        found = score(make_metric(task.metric), cleaned, line["references"])
        assert found == {"score": pytest.approx(line["score"], abs=1e-9)}, line["config"]


def texts(draw: random.Random, parts: str, most: int) -> str:
    return "".join(draw.choice([*parts, " ", " ", ". "]) for _ in range(draw.randint(0, most)))


def test_rouge_is_the_packages() -> None:
    rouge = pytest.importorskip("rouge", reason="rouge 1.0.1 is not installed").Rouge()
    draw = random.Random(1)
    for _ in range(400):
        answer, gold = texts(draw, "abcde\n", 40), texts(draw, "abcde\n", 40)
        try:
            expected = rouge.get_scores([answer], [gold], avg=True)["rouge-l"]["f"]
        except (ValueError, RecursionError):
            expected = 0.0
        assert rouge_l(answer, gold) == pytest.approx(expected, abs=1e-12), (answer, gold)


def naive_common_length(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        above = row[:]
        for j, y in enumerate(b):
            row[j + 1] = above[j] + 1 if x == y else max(row[j], above[j + 1])
    return row[-1]


def test_common_length_and_similarity() -> None:
    draw = random.Random(2)
    for _ in range(300):
        a, b = texts(draw, "abc", 90), texts(draw, "abc", 90)
        assert common_length(a, b) == naive_common_length(a, b)
    assert (
        similarity("", "x") == 0
        and similarity("abc", "abc") == 100
        and similarity("    return x+1", "    return x + 1") == 93
    )


def test_names_are_dropped_while_the_list_is_gone_through() -> None:
    classes = ["sport", "sports", "sports news", "film"]
    assert class_score("sports news", "sports news", classes) == 1 / 2, "the one behind a dropped name stays"
    assert class_score("film and sport", "film", classes) == 1 / 2
    assert class_score("sport", "film", classes) == 0


@pytest.mark.parametrize(
    ("metric", "gold"),
    [
        ("longbench_f1", []), ("longbench_f1", [""]), ("longbench_retrieval", ["5"]), ("longbench_classes", ["A"]),
        ("longbench_classes", {"answers": ["A"], "all_classes": ["B"]}),
    ],
)  # fmt: skip
def test_golds_are_checked(metric: str, gold: Any) -> None:
    assert make_metric(NamedCall(metric)).check_gold(case("", gold))


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fr'"):
        make_metric(NamedCall("longbench_f1", {"language": "fr"}))


def rows_of(task: str) -> list[dict[str, Any]]:
    """Two rows of our own in the hub's schema."""
    zh = task in ("multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh")
    answers = {
        "passage_count": ["3"], "passage_retrieval_en": ["Paragraph 2"], "passage_retrieval_zh": ["段落2"],
        "trec": ["Number of things"], "lsht": ["体育"], "lcc": ["    return total"],
        "repobench-p": ["    return total"],
    }.get(task, ["旧桥在一九一二年重修。"] if zh else ["The old bridge was rebuilt in 1912."])  # fmt: skip
    classes = {"trec": ["Number of things", "Name of a place"], "lsht": ["体育", "财经"]}.get(task)
    row = {
        "input": "旧桥何时重修？" if zh else "When was the old bridge rebuilt?",
        "context": "旧桥在一九一二年重修。" * 30 if zh else "The old bridge was rebuilt in 1912. " * 30,
        "answers": answers, "length": 3000, "dataset": task, "language": "zh" if zh else "en",
        "all_classes": classes, "_id": f"{task}0",
    }  # fmt: skip
    return [row, {**row, "length": 9000, "_id": f"{task}1"}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    folder = tmp_path_factory.mktemp("data")
    place = folder / "THUDM/LongBench/data"
    place.mkdir(parents=True)
    for member in config().members:
        for name in (member.name, f"{member.name}_e"):
            rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(member.name)]
            (place / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    return DataRoot(folder)


def test_all_tasks_run_on_rows_of_our_own(root: DataRoot) -> None:
    """Every task reads its rows, fills its prompt, and gives a right answer full marks."""
    pytest.importorskip("jieba", reason="jieba is not installed")
    task = Task(config(), root, CharTokenizer)
    task.check()
    assert len(task.subsets) == 21
    for subset in task.subsets:
        part, samples = task.part(subset), task.samples(subset)
        (turn,) = task.render(samples[0], "chat").turns or ()
        assert samples[0].row["context"] in turn.text
        gold = samples[0].gold
        answer = (gold["answers"] if isinstance(gold, dict) else gold)[0]
        read = extract(f"\n{answer}", part.extract, {})
        assert score(make_metric(part.metric), [read], [gold])["score"] == pytest.approx(100, abs=1e-5), subset


def test_lengths_of_longbench_e(root: DataRoot) -> None:
    whole = config("longbench_e_gen")
    chosen = tuple(m for m in whole.members if m.variables["words"] != "4-8k")
    task = Task(replace(whole, members=chosen), root, CharTokenizer)
    lengths = {m.variables["words"]: [s.row["length"] for s in task.samples(m.name)] for m in chosen}
    assert len(whole.members) == 39 and lengths == {"0-4k": [3000], "8k+": [9000]}


def test_the_average_is_over_categories() -> None:
    """The mean of six category means; the languages' rows are plain means of their tasks."""
    benchmark = config()
    values = {m.name: float(i * i) for i, m in enumerate(benchmark.members)}
    results = {name: SubsetResult(name, (), {"score": v}, 1, 1, 0.0, 0) for name, v in values.items()}
    rows = {s.row: s.value for s in scores_of("m", benchmark, results, list(values), {})}
    means = {g.name: stats.mean([values[name] for name in g.members]) for g in benchmark.groups}
    six = [means[name] for name in benchmark.average.args[""]]
    assert len(six) == 6 and rows["longbench"] == pytest.approx(stats.mean(six))
    assert {f"longbench-{name}": pytest.approx(mean) for name, mean in means.items()}.items() <= rows.items()
    assert [len(g.members) for g in benchmark.groups] == [4, 4, 4, 4, 3, 2, 16, 7]
    weights = weights_of(benchmark, {m.name: m.name for m in benchmark.members}, {})
    assert sum(weights) == pytest.approx(1) and weights[-1] == pytest.approx(1 / 12)
