"""A gold that a metric cannot use, and a row that cannot be judged: neither gives a number, nor ends the others'."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import evalkit.scoring.extract  # noqa: F401 - registers the steps
from evalkit.configs.catalog import open_catalog
from evalkit.core.calls import parse_calls
from evalkit.core.errors import DataError
from evalkit.core.records import Benchmark, DataSpec, GenSpec, Group, Member, NamedCall, Reply, Sample
from evalkit.core.registry import METRICS
from evalkit.data.files import DataRoot
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.manifest import from_manifest, to_manifest
from evalkit.plan.plan import RunPlan
from evalkit.plan.task import Cut, Task
from evalkit.results.index import IndexedSample
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.metrics.golds import has_gold
from evalkit.scoring.score import Options, score_subset

CALLS: Mapping[str, Any] = {
    "by": {"by": {"key": "kind", "metrics": {"a": "accuracy"}}},
    "majority": {"majority": {"of": "accuracy", "k": 1}},
    "evaluate": "evaluate:exact_match",
    "tool_use": {"tool_use": {"of": "accuracy"}},
}
"""How the metrics that need arguments are written; every other registered one is taken by its name alone."""
JUDGED = ("llm_judge", "alpaca_eval")
"""Metrics that ask a model; they look at the whole row, and need no gold."""
HUMANEVAL = {"prompt": "def f(x):\n", "test": "def check(f):\n    assert f(1) == 1\n", "entry_point": "f"}
ODD_GOLDS = (None, "", "  ", [], {}, [""], [None], [[]], {"a": 1}, [1, 2], math.nan, math.inf, True, 3, 3.7, ("",),
             b"x",
             "assert True", "x = 1", "*", "needle", "needle*", "*key", "a (", {"instruction_id_list": [], "kwargs": []},
             {"instruction_id_list": ["no:such"], "kwargs": [{}]})  # fmt: skip


def benchmark(metric: Any, mode: str = "gen", labels: tuple[str, ...] = (), extract: Any = ()) -> Benchmark:
    return Benchmark(
        name="mine", hash="0" * 12, mode=mode, data=DataSpec(file="mine.jsonl"), fields={}, gold="g", where="",
        members=(Member("mine"),), groups=(Group("", ()),), average=NamedCall("mean"), prompt="{{ q }}", shots=None,
        labels=labels, continuation="", gen=GenSpec(), extract=parse_calls(list(extract)),
        metric=parse_calls(metric)[0], quirks=frozenset(), family="mine", row="mine",
    )  # fmt: skip


def sample(gold: Any, index: int = 0, row: Mapping[str, Any] | None = None) -> Sample:
    return Sample(f"mine/{index}", "mine", index, row or {"q": "?"}, gold, {"kind": "a", "answer_types": "float"})


def score(made: Benchmark, golds: list[Any], replies: list[str], options: Options | None = None) -> Any:
    indexed = [IndexedSample(sample(gold, i), {"0": f"k{i}"}) for i, gold in enumerate(golds)]
    stored = {f"k{i}": Reply(f"k{i}", text=text) for i, text in enumerate(replies)}
    return score_subset(made, "mine", indexed, stored, options or Options())


@pytest.mark.parametrize("gold", ODD_GOLDS, ids=repr)
@pytest.mark.parametrize("name", sorted(set(METRICS) - {"min_k", *JUDGED}))
def test_an_odd_gold_is_refused_or_not_matched_by_an_empty_reply(name: str, gold: Any) -> None:
    made = benchmark(CALLS.get(name, name))
    metric = make_metric(made.metric)
    one = sample(gold, row={"q": "?", **HUMANEVAL} if not metric.uses_gold else None)
    assert metric.without_gold([one]) == (metric.uses_gold and not has_gold(gold))
    if metric.without_gold([one]) or metric.gold_faults(made, [one]) or metric.runs_code:
        return
    result = score(made, [gold], [""])
    assert all(v.values.get("value", 0) < 1 for v in result.verdicts)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"mean_loss", "min_k", *JUDGED}))  # texts have no golds
def test_no_metric_takes_a_null_an_empty_list_or_an_empty_mapping(name: str) -> None:
    made = benchmark(CALLS.get(name, name))
    metric = make_metric(made.metric)
    for gold in (None, "", [], {}):
        one = sample(gold)  # a metric that looks at columns has none here
        assert metric.without_gold([one]) or metric.gold_faults(made, [one]), gold


@pytest.mark.parametrize(
    "tests", ["x = 1", "add(1, 2) == 3", "[add(1, 2) == 3]", "assert True", "print(1)", "assert 1 == 1", "if", "pass"]
)
@pytest.mark.parametrize("key", ["", "tests"])
def test_tests_that_prove_nothing(tests: str, key: str) -> None:
    made = benchmark({"passes_asserts": {"tests": key}})
    gold = {key: tests} if key else tests
    ((_, fault),) = make_metric(made.metric).gold_faults(made, [sample(gold)])
    assert "tests" in fault
    row = {**HUMANEVAL, "test": tests}
    humaneval = benchmark("pass_at_k")
    assert make_metric(humaneval.metric).gold_faults(humaneval, [sample(None, row=row)])


def test_a_list_of_assertions_is_run() -> None:
    made = benchmark("passes_asserts")
    golds = [["assert add(1, 2) == 3", "assert add(0, 0) == 0"]] * 3
    replies = ["x = 1", "", "def add(a, b):\n    return a + b"]
    result = score(made, golds, replies, Options(allow_code=True, unsafe_code=True))
    assert [v.values["value"] for v in result.verdicts] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("mode", ["ppl", "ll"])
@pytest.mark.parametrize("gold", [1, "E", "true", True, "a", ["A"], {"A": 1}, "A "], ids=repr)
def test_a_gold_that_is_no_label(mode: str, gold: Any) -> None:
    made = benchmark("accuracy", mode, ("A", "B"))
    assert make_metric(made.metric).gold_faults(made, [sample("A"), sample(gold)])[0][0].gold == gold
    assert not make_metric(made.metric).gold_faults(made, [sample("B")])


def test_a_number_is_the_label_that_is_written_like_it() -> None:
    made = benchmark("accuracy", "ppl", ("0", "1"))
    assert not make_metric(made.metric).gold_faults(made, [sample(1)])
    stored = {"a": Reply("a", nll=2.0), "b": Reply("b", nll=1.0)}
    result = score_subset(made, "mine", [IndexedSample(sample(1), {"0": "a", "1": "b"})], stored, Options())
    assert result.results == {"accuracy": 100.0}


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (3.7, ["3.7", "3.70"], ["3", "4", ""]),
        ("2.5", ["2.50", "2.5"], ["2", "3", "25"]),
        (-0.4, ["-0.4", "-0.40"], ["0", "0.4", "-0"]),
        (1e-9, ["0.000000001", "1e-9"], ["0", "1e-8"]),
        ("18", ["18", "18.0", "18.0000001"], ["18.1", "17", "NULL", "x"]),
        (1234, ["1234", "1,234"], ["234", "1"]),
        ("-3", ["-3", "\u22123"], ["3"]),
    ],
)
def test_decimal_golds(gold: Any, right: list[str], wrong: list[str]) -> None:
    result = score(benchmark("numeric_accuracy"), [gold] * len(right + wrong), right + wrong)
    assert [v.values["value"] for v in result.verdicts] == [1.0] * len(right) + [0.0] * len(wrong)


def test_the_published_rule_cuts_golds() -> None:
    whole = benchmark({"numeric_accuracy": {"whole": True}})
    assert score(whole, [3.7, "2.5"], ["3", "2.50"]).results == {"accuracy": 50.0}


BAD = {
    "accuracy": {"a": 1},
    "contains_gold": 7,
    "letter_score": {"x": 1},
    "numeric_accuracy": "many",
    "ifeval": {"instruction_id_list": ["no:such"], "kwargs": [{}]},
    "theorem_match": "many",
    "needle_v2": "no keyword",
    "math_equivalence": ["x"],
    "hendrycks_equivalence": ["x"],
    "span_match": 7,
}
GOOD = {
    "accuracy": ("x", "x"),
    "contains_gold": ("x", "x"),
    "letter_score": (["A"], ["A"]),
    "numeric_accuracy": ("1", "1"),
    "ifeval": ({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, "fine"),
    "theorem_match": ("1", "1"),
    "needle_v2": ("n*k", "k"),
    "math_equivalence": ("1", "1"),
    "hendrycks_equivalence": ("1", "1"),
    "span_match": ("x", "x"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_one_odd_gold_leaves_the_others_scored(name: str) -> None:
    """The run was made when the gold was another, or by an older version: inference was not refused."""
    gold, reply = GOOD[name]
    steps = [{"first_letters": {"among": "AB", "count": 1}}] if name == "letter_score" else []
    made = benchmark(name, extract=steps)
    result = score(made, [gold, BAD[name], gold, None], ["".join(reply)] * 4)
    assert next(iter(result.results.values())) == 100.0
    assert (result.n, result.n_expected, result.faults, result.without_gold) == (2, 3, 1, 1)
    assert result.first_fault.startswith("mine/1: ") and len(result.first_fault) > len("mine/1: ")
    assert [v.missing for v in result.verdicts] == [False, True, False]


def test_a_step_that_fails_on_one_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit.core.registry import STEPS

    def fragile(text: str, context: Any) -> str:
        if text == "bad":
            raise ValueError("cannot read this")
        return text

    monkeypatch.setitem(STEPS._items, "fragile", fragile)
    result = score(benchmark("accuracy", extract=["fragile"]), ["x"] * 3, ["x", "bad", "y"])
    assert result.results == {"accuracy": 50.0} and result.faults == 1
    assert "cannot read this" in result.first_fault


PLAIN = "mode: gen\ndata: {file: mine.jsonl}\ngold: g\nprompt: '{{ q }}'\n"


def _task(folder: Path, rows: list[Any], config: str) -> Task:
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dataset_configs").mkdir(exist_ok=True)
    file = folder / "dataset_configs" / "mine_gen.yaml"
    file.write_text(config)
    return Task(load_benchmark_config(file, open_catalog([folder])), DataRoot(folder, file.parent))


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [("accuracy", "x", {"a": 1}), ("numeric_accuracy", 3, "many"), ("contains_gold", "x", 7), ("needle_v2", "n*k", "n"),
     ("letter_score", ["A"], {"a": 1}), ("passes_asserts", "assert f() == 1", ["f() == 1"])],
)  # fmt: skip
def test_the_plan_names_benchmark_file_and_row(tmp_path: Path, metric: str, good: Any, bad: Any) -> None:
    config = f"mode: gen\ndata: {{file: mine.jsonl}}\ngold: g\nprompt: '{{{{ q }}}}'\nmetric: {metric}\n"
    rows = [{"q": "?", "g": good}, {"q": "?", "g": good}, {"q": "?", "g": bad}]
    _task(tmp_path, rows[:2], config).check()
    with pytest.raises(DataError) as caught:
        _task(tmp_path, rows, config).check()
    assert all(part in caught.value.message for part in ("mine_gen", "mine.jsonl", "row 2", metric))


@pytest.mark.parametrize(
    ("config", "golds", "note"),
    [
        ("mode: gen\nmetric: {math_equivalence: {gold: [boxed_answer]}}", ["\\boxed{A}", "no box"], "row 1"),
        ("mode: gen\nmetric: accuracy", ["A", None], "1 of 2 rows have no gold"),
        ("mode: ppl\nlabels: [A, B]\nmetric: accuracy", ["A", "AB"], "row 1"),
        ("mode: ppl\nlabels: [A, B]\nmetric: accuracy", ["A", None], "1 of 2 rows have no gold"),
    ],
)
def test_golds_as_published_are_judged_and_named(tmp_path: Path, config: str, golds: list[Any], note: str) -> None:
    config = f"data: {{file: mine.jsonl}}\ngold: g\nprompt: '{{{{ q }}}}'\n{config}\n"
    rows = [{"q": "?", "g": gold} for gold in golds]
    task = _task(tmp_path, rows, f"{config}golds: as_published\n")
    task.check()
    (said,) = task.gold_notes()
    assert note in said and "as in the published results" in said
    assert task.benchmark.hash == _task(tmp_path, rows, config).benchmark.hash
    (subset,) = task.scored
    names = task.benchmark.labels or ["0"]
    indexed = [IndexedSample(s, {name: f"{s.id}/{name}" for name in names}) for s in task.samples(subset)]
    stored = {key: Reply(key, text="A", nll=1.0 + i) for x in indexed for i, key in enumerate(x.keys.values())}
    result = score_subset(task.benchmark, subset, indexed, stored, Options())
    assert (result.n, result.n_expected, result.faults, result.without_gold) == (2, 2, 0, 0)
    assert list(result.results.values()) == [50.0]


def test_golds_as_published_that_are_all_absent_are_refused(tmp_path: Path) -> None:
    config = "mode: gen\ndata: {file: mine.jsonl}\ngold: g\nprompt: '{{ q }}'\nmetric: accuracy\n"
    with pytest.raises(DataError, match="no row has a gold"):
        _task(tmp_path, [{"q": "?", "g": None}], f"{config}golds: as_published\n").check()


def test_rows_without_a_gold(tmp_path: Path) -> None:
    config = "mode: gen\ndata: {file: mine.jsonl}\ngold: g\nprompt: '{{ q }}'\nmetric: accuracy\n"
    some = _task(tmp_path, [{"q": "?", "g": "x"}, {"q": "?", "g": None}, {"q": "?", "g": ""}], config)
    some.check()
    (note,) = some.gold_notes()
    assert "2 of 3 rows have no gold" in note and "not scored" in note
    none = _task(tmp_path, [{"q": "?", "g": None}], config)
    with pytest.raises(DataError, match="no row has a gold"):
        none.check()


def test_a_run_from_before_golds_were_checked_judges_all_its_rows(tmp_path: Path) -> None:
    task = _task(tmp_path, [{"q": "?", "g": "x"}], f"{PLAIN}metric: accuracy\n")
    plan = RunPlan({}, {}, {"mine_gen": task.benchmark}, {}, (), Cut(), 0, None, None)
    manifest = to_manifest(plan, [])
    assert from_manifest(manifest).benchmarks["mine_gen"].golds == "checked"
    del manifest["benchmarks"]["mine_gen"]["golds"]
    assert from_manifest(manifest).benchmarks["mine_gen"].golds == "as_published"
