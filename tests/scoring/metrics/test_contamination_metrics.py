"""Accuracy by annotation, from the file to pooled rows, and the permutation tests (protocol sheet: contamination)."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.core import stats
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall
from evalkit.prompts.builders import BUILDERS, Material
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.metrics import Case, Judged, Tools, make_metric
from evalkit.scoring.score import SubsetResult

CLEAN, INPUT, BOTH = "clean", "input contamination", "input-and-label contamination"
NAMES = ("accuracy - clean", "accuracy - input contaminated", "accuracy - input-and-label contaminated")


def judged(answers: str, golds: str, kinds: list[str]) -> list[Judged]:
    metric = make_metric(NamedCall("accuracy_by_annotation"))
    rows = zip(answers, golds, kinds, strict=True)
    cases = [Case(f"s/{i}", 0, a, g, {"annotation": k}, {}) for i, (a, g, k) in enumerate(rows)]
    return [Judged(c.sample_id, v) for c, v in zip(cases, metric.judge(cases, Tools()), strict=True)]


def test_worked_example_of_the_sheet() -> None:
    metric = make_metric(NamedCall("accuracy_by_annotation"))
    found = judged("ABCD", "ABDD", [CLEAN, CLEAN, INPUT, BOTH])
    assert metric.combine(found) == {"accuracy": 75.0, NAMES[0]: 100.0, NAMES[1]: 0.0, NAMES[2]: 100.0}
    assert metric.counts(found) == {NAMES[0]: 2, NAMES[1]: 1, NAMES[2]: 1}
    with pytest.raises(ConfigError, match="annotated 'clear'"):
        judged("A", "A", ["clear"])


def test_kinds_are_pooled_over_subjects_and_may_be_absent_in_some() -> None:
    metric, results = make_metric(NamedCall("accuracy_by_annotation")), {}
    benchmark = load_benchmark("contamination_ceval_clean_ppl:law,logic").benchmark
    parts = {"law": ("AAAA", [CLEAN, CLEAN, CLEAN, ""]), "logic": ("BA", [CLEAN, INPUT])}
    for name, (answers, kinds) in parts.items():
        found = judged(answers, "A" * len(answers), kinds)
        results[name] = SubsetResult(
            name, (), metric.combine(found), len(found), len(found), None, 0, parts=metric.counts(found)
        )
    rows = {(s.row, s.metric): s for s in scores_of("m", benchmark, results, ["law", "logic"], {})}
    assert rows["ceval_clean", "accuracy"].value == 75.0, "the mean of the subjects"
    pooled = rows["ceval_clean", NAMES[0]]
    assert (pooled.value, pooled.n, pooled.n_expected) == (75.0, 4, 4), "three of four clean items, not (100 + 0) / 2"
    assert rows["ceval_clean", NAMES[1]].n == 1 and ("ceval_clean", NAMES[2]) not in rows
    assert ("ceval_clean-law", NAMES[1]) not in rows


def test_rows_get_their_annotation(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"law-0": [CLEAN, "x"], "law-2": [BOTH]}))
    made = BUILDERS.get("annotated")

    def material(folder: Path) -> Material:
        return Material([{"q": i} for i in range(3)], {"subset": "law"}, lambda: None, {}, lambda n: folder / n)  # type: ignore[arg-type,return-value]

    rows = made(material(tmp_path), file="a.json", key="{{ subset }}-{{ idx }}")
    assert [row["annotation"] for row in rows] == [CLEAN, "", BOTH]
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(DataError, match="holds no annotations"):
        made(material(tmp_path), file="a.json", key="{{ idx }}")


def test_absent_annotations_are_an_error() -> None:
    handle = load_benchmark("contamination_ceval_clean_ppl:law", "samples")
    with pytest.raises(DataError, match=r"ceval_annotations\.json not found"):
        handle.samples("law")


def test_permutation_p_values_are_those_of_all_exchanges() -> None:
    """Drawn exchanges against every one of them, both ways round, on sets small enough for that."""
    dice = random.Random(3)
    for sizes in ((3, 5), (5, 3)):
        low, high = ([dice.gauss(mu, 1) for _ in range(n)] for mu, n in zip((0, 0.7), sizes, strict=True))
        pooled = [*low, *high]
        sums = [sum(part) for part in itertools.combinations(pooled, len(low))]
        exact = sum(s <= sum(low) + 1e-12 for s in sums) / len(sums)
        assert stats.permutation_p(low, high, 9999) == pytest.approx(exact, abs=0.025)
        assert stats.permutation_p(low[::-1], high[::-1], 999) == stats.permutation_p(low, high, 999)
    gaps = [dice.gauss(-0.4, 1) for _ in range(8)]
    flips = [sum(s * g for s, g in zip(signs, gaps, strict=True)) for signs in itertools.product((-1, 1), repeat=8)]
    exact = sum(f <= sum(gaps) + 1e-12 for f in flips) / len(flips)
    assert stats.sign_flip_p(gaps, 9999) == pytest.approx(exact, abs=0.025)
