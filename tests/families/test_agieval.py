"""AGIEval: subsets, prompts, rules for each kind of question, averages (protocol sheet: agieval)."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.extract.cloze import NUMBER, agieval_cloze
from evalkit.scoring.metrics import Case, Tools, make_metric
from evalkit.scoring.metrics.hendrycks import equal
from evalkit.scoring.score import SubsetResult
from tests.vectors import vectors

CHAT, LATER, LATEST = "agieval_gen_64afd3", "agieval_gen_f84832", "agieval_gen_5c79b4"
MIXED, MIXED_LATER = "agieval_mixed_2f14ad", "agieval_mixed_e33d83"
ROW = re.compile(
    r"^\| ([\w-]+) \| (\d+) \| (single choice, options A–[DE]|one or more letters|cloze) \| (.+) \|$", re.M
)
KINDS = {
    "four": "single choice, options A–D",
    "five": "single choice, options A–E",
    "several": "one or more letters",
    "cloze": "cloze",
}
SAMPLE_SUBSETS = "gaokao-geography,gaokao-physics,jec-qa-kd,gaokao-mathcloze,lsat-ar,sat-en,math"


def table(shared: Path) -> dict[str, tuple[str, str, str]]:
    """Subset -> rows, kind and introduction, as in the sheet's table."""
    sheet = (shared / "protocols" / "agieval.md").read_text(encoding="utf-8")
    return {name: (rows, kind, intro) for name, rows, kind, intro in ROW.findall(sheet)}


def test_subsets_kinds_and_counts_equal_the_sheet(shared: Path) -> None:
    handle = load_benchmark(CHAT, shared / "data")
    listed = table(shared)
    assert len(listed) == 21
    ours = {
        m.name: (str(len(handle.samples(m.name))), KINDS[m.variables["kind"]], m.variables["intro"])
        for m in handle.benchmark.members
    }
    assert ours == listed
    assert sum(int(rows) for rows, _, _ in listed.values()) == len(handle.samples()) == 8269


def test_prompts_of_all_subsets_equal_the_sheet(shared: Path) -> None:
    for config in (CHAT, LATER, LATEST):
        handle = load_benchmark(config, shared / "data")
        for name, (_, kind, intro) in table(shared).items():
            sample = handle.samples(name)[-1]
            chinese = name.startswith("gaokao") or name == "logiqa-zh" or (config == LATEST and "jec-qa" in name)
            middle = "" if kind == "cloze" else sample.row["options"] + "\n"
            if config != CHAT and name == "math":
                intro = "The following is a Math question. Please give the correct answer."
            expected = f"{intro}\n{sample.row['question']}\n{middle}{'答案是： ' if chinese else 'The answer is '}"
            assert handle.render(sample, "base") == expected
            assert handle.render(sample, "chat") == [{"role": "user", "content": expected + "\n"}]


def test_mixed_prompts_of_all_subsets_equal_the_sheet(shared: Path) -> None:
    for config in (MIXED, MIXED_LATER):
        handle = load_benchmark(config, shared / "data")
        assert handle.benchmark.modes == {"ppl", "gen"}
        for name, (_, kind, intro) in table(shared).items():
            sample = handle.samples(name)[-1]
            chinese = name.startswith("gaokao") or name == "logiqa-zh" or (config == MIXED_LATER and "jec-qa" in name)
            hint, question = "答案是：" if chinese else "The answer is ", sample.row["question"]
            if config != MIXED and name == "math":
                intro = "The following is a Math question. Please give the correct answer."
            if kind == "cloze":
                assert handle.render(sample, "base") == f"{intro}\n{question}{hint}"
            elif kind == "one or more letters":
                space = " " if chinese else ""
                assert handle.render(sample, "base") == f"{intro}\n{question}\n{sample.row['options']}\n{hint}{space}"
            else:
                labels = "ABCDE" if kind.endswith("E") else "ABCD"
                texts = {x: f"{intro}\n{question}\n{sample.row['options']}\n{hint}{x}" for x in labels}
                assert handle.render(sample, "base") == texts
                assert list(handle.render(sample, "chat")) == list(labels)


def test_mixed_vectors(shared: Path) -> None:
    """What the base configs give for the recorded outputs of each kind of question."""
    handle, seen = load_benchmark(MIXED), 0
    for line in vectors(shared, "agieval_score"):
        config = line["config"]
        if "64afd3" in config:
            continue
        kind = "cloze" if "cloze" in config else "several" if "multi" in config else "four"
        golds = ["".join(g) if isinstance(g, list) else g for g in line["references"]]
        found = handle.score(line["predictions"], golds, kind=kind)
        assert found["accuracy"] == pytest.approx(line["score"]), line
        seen += 1
    assert seen == 21


def test_mixed_sample_rows() -> None:
    for config in (MIXED, MIXED_LATER):
        load_benchmark(f"{config}:{SAMPLE_SUBSETS}", "samples").task.check()


def test_questions_and_labels(shared: Path) -> None:
    handle = load_benchmark(CHAT, shared / "data")
    assert {s.gold for s in handle.samples("jec-qa-kd")} > {"A", "ABCD"}
    assert sum(len(s.gold) > 1 for s in handle.samples("gaokao-physics")) == 35
    several = sorted(s.gold for s in handle.samples("gaokao-mathqa") if len(s.gold) > 1)
    assert several == ["A B D", "A C", "AC", "ACD", "AD", "B C D", "CD"]
    assert [s.id for s in handle.samples() if not s.gold] == ["jec-qa-kd/211"], "the file gives no answer"
    sample = handle.samples("sat-en")[0]
    assert sample.row["question"].startswith("Akira came directly") and "(A)" in sample.row["options"]


def test_vectors(shared: Path) -> None:
    handle, lines = load_benchmark(CHAT), vectors(shared, "agieval_score")
    assert len(lines) == 33
    for line in lines:
        config = line["config"]
        kind = "cloze" if "cloze" in config else "several" if "multi" in config else "five"
        golds = ["".join(g) if isinstance(g, list) else g for g in line["references"]]
        found = handle.score(line["predictions"], golds, kind=kind, extracted="ppl" in config)
        assert found["accuracy"] == pytest.approx(line["score"]), line
        answers = line.get("postprocessed", line.get("parsed"))
        if answers is not None:
            assert [handle.extract(text, kind=kind) for text in line["predictions"]] == answers, line


@pytest.mark.parametrize("config", [CHAT, LATER, LATEST])
def test_sample_rows(config: str) -> None:
    handle = load_benchmark(f"{config}:{SAMPLE_SUBSETS}", "samples")
    handle.task.check()
    for member in handle.benchmark.members:
        samples = handle.samples(member.name)
        golds, kind = [s.gold for s in samples], member.variables["kind"]
        prompt = "答案是" if member.variables["hint"] == "zh" else "The answer is"
        outputs = [f"{prompt} ${gold}$" if kind == "cloze" else f"{prompt} {gold}" for gold in golds]
        assert handle.score(outputs, golds, kind=kind) == {"accuracy": 100.0}, member.name
        assert handle.score(["?"] * len(golds), golds, kind=kind) == {"accuracy": 0.0}
    assert "答案是" in str(handle.render(handle.samples("gaokao-physics")[0]))
    assert [s.gold for s in handle.samples("jec-qa-kd")] == ["AC", "A"]
    assert handle.samples("gaokao-geography")[2].row["question"].startswith("某河上游流经山区，下游流经平原。该河")


def test_groups_and_plain_mean() -> None:
    benchmark = load_benchmark(CHAT).benchmark
    assert {g.name: len(g.members) for g in benchmark.groups} == {"chinese": 12, "english": 9, "gk": 9}
    names = [m.name for m in benchmark.members]
    assert len(names) == 21
    values = {n: 100.0 if n == "gaokao-mathcloze" else 0.0 for n in names}
    results = {n: SubsetResult(n, (), {"accuracy": v}, 1 if v else 500, 1, None, 0) for n, v in values.items()}
    rows = {s.row: s.value for s in scores_of("m", benchmark, results, names, {})}
    assert rows["agieval"] == pytest.approx(100 / 21)
    assert rows["agieval-gk"] == pytest.approx(100 / 9)
    assert (rows["agieval-english"], rows["agieval-chinese"]) == (0.0, pytest.approx(100 / 12))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is therefore \\boxed{x = 7}", "7"),
        ("答案是 3，答案是 4", "4"),
        ("$a$ and $b=2$", "2"),
        ("\\boxed 5", None),
        ("-3", "3"),
        ("12.5kg", "12"),
        ("$5", "$5"),
        ("$$ x = 4.", "4"),
        ("nothing", None),
    ],
)
def test_cloze_rules(text: str, answer: str | None) -> None:
    assert agieval_cloze(text, {}) == answer


def test_numbers_are_those_of_the_plain_pattern() -> None:
    """The pattern that tries each run of digits once finds what the plain one finds."""
    plain, dice = re.compile(r"(?:\$)?\d+(?:\.\d+)?(?![\w\d])"), random.Random(0)
    for _ in range(20_000):
        text = "".join(dice.choices("12.$ax ,_", k=dice.randint(1, 12)))
        assert NUMBER.findall(text) == plain.findall(text), text


def test_equivalence_of_the_math_benchmark() -> None:
    same = [
        ("0.5", "1/2"),
        ("\\dfrac34", "\\frac{3}{4}"),
        ("x=5", "5"),
        ("\\sqrt2", "\\sqrt{2}"),
        ("5\\text{ cm}", "5"),
    ]
    assert all(equal(a, b) and equal(b, a) for a, b in [*same, ("\\left(1\\right)", "(1)"), ("30^\\circ", "30")])
    assert equal(None, None) and not equal(None, "1") and not equal("1/3", "0.33")
    assert not equal("1\\text{ m} 2\\text{ s}", "1")


def test_metric_by_kind_refuses_what_cannot_work() -> None:
    call = NamedCall("by", {"key": "kind", "metrics": {"a": "accuracy", "b": "math_equivalence"}})
    metric = make_metric(call)
    cases = [Case(str(i), 0, answer, gold, {}, {"kind": kind}) for i, (kind, answer, gold) in enumerate(
        [("b", "\\frac12", "1/2"), ("a", "1/2", "0.5"), ("b", "3", "4")]
    )]  # fmt: skip
    assert [v["value"] for v in metric.judge(cases, Tools())] == [1.0, 0.0, 0.0]
    with pytest.raises(ConfigError, match="no metric for kind 'c'"):
        metric.judge([Case("x", 0, "1", "1", {}, {"kind": "c"})], Tools())
    with pytest.raises(ConfigError, match="depends on 'kind'"):
        metric.judge([Case("x", 0, "1", "1", {}, {})], Tools())
    with pytest.raises(ConfigError, match="are called accuracy, score"):
        make_metric(NamedCall("by", {"key": "kind", "metrics": {"a": "accuracy", "b": "contains_gold"}}))
