"""Accuracy by annotation, from the file to pooled rows, and the permutation tests (protocol sheet: contamination)."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.core import stats
from evalkit.core.calls import make_contrast
from evalkit.core.digest import digest
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import NamedCall, Reply, Request, Verdict
from evalkit.plan.task import _keyed
from evalkit.prompts.builders import BUILDERS, Material
from evalkit.scoring.aggregate import scores_of
from evalkit.scoring.metrics import Case, Judged, Tools, make_metric
from evalkit.scoring.metrics.contamination import lowest_mean
from evalkit.scoring.score import SubsetResult
from tests import helpers

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


def text_case(number: int, logs: list[float], deviations: list[float]) -> Case:
    reply = Reply("k", nll=1.5, token_logs=logs, token_deviations=deviations)
    return Case(f"s/{number}", 0, "text", None, {}, {}, {"text": 1.5}, reply=reply)


def test_min_k_takes_the_lowest_share_of_tokens() -> None:
    metric = make_metric(NamedCall("min_k", {"k": 40}))
    logs = [-1.0, -9.0, -2.0, -5.0, -0.5]
    assert metric.uses_tokens and lowest_mean(logs, 40) == -7.0 and lowest_mean(logs, 39) == -9.0
    assert lowest_mean(logs, 1) == -9.0, "one token at least"
    assert lowest_mean(logs, 100) == pytest.approx(-3.5)
    cases = [text_case(0, logs, [0.0, -2.0, 1.0, -1.0, 0.5]), text_case(1, [-1.0], [0.25])]
    values = metric.judge(cases, Tools())
    assert values[0] == {"loss": 1.5, "min_k": -7.0, "min_k_pp": -1.5}
    results = metric.combine([Judged(c.sample_id, v) for c, v in zip(cases, values, strict=True)])
    assert results == {"min-40%": -4.0, "min-40%++": -0.625}
    with pytest.raises(ConfigError, match="takes the tokens of one text"):
        metric.judge([Case("s/0", 0, "text", None, {}, {}, {"text": 1.0}, reply=Reply("k", nll=1.0))], Tools())
    for k in (0, 101):
        with pytest.raises(ConfigError, match="a share of the tokens"):
            make_metric(NamedCall("min_k", {"k": k}))


def test_membership_is_the_share_of_ordered_pairs() -> None:
    dice = random.Random(3)
    texts = {name: [round(dice.gauss(shift, 1), 1) for _ in range(30)] for name, shift in SHIFTS.items()}
    verdicts = {
        name: [Verdict(f"{name}/{i}", name, "text", None, {"min_k": x, "min_k_pp": -x}) for i, x in enumerate(values)]
        for name, values in texts.items()
    }
    found = {d.name: d for d in make_contrast(NamedCall("membership")).of(verdicts)}
    assert set(found) == {f"{m}-{s}" for m in ("min_k", "min_k_pp") for s in ("test", "train", "splits")}
    for name, (first, second) in {"test": ("test", "ref"), "splits": ("train", "test")}.items():
        pairs = [(a, b) for a in texts[first] for b in texts[second]]
        auc = 100 * sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
        assert any(a == b for a, b in pairs), "ties are counted too"
        assert found[f"min_k-{name}"].value == pytest.approx(auc)
        assert found[f"min_k_pp-{name}"].value == pytest.approx(100 - auc)
        assert found[f"min_k-{name}"].n == 60 and found[f"min_k-{name}"].metric == "AUC"
    assert found["min_k-test"].p < 0.001 and found["min_k_pp-test"].p > 0.99 and found["min_k-splits"].p > 0.01
    without = {name: made for name, made in verdicts.items() if name != "ref"}
    assert [d.name for d in make_contrast(NamedCall("membership")).of(without)] == ["min_k-splits", "min_k_pp-splits"]


SHIFTS = {"train": 2.0, "test": 2.0, "ref": 0.0}


def test_ranks_share_ties() -> None:
    assert stats.ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]
    assert stats.ranks([5.0, 5.0, 5.0]) == [2.0, 2.0, 2.0] and stats.ranks([]) == []


def test_only_engines_with_the_whole_distribution_are_asked(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    args = ("--config-dir", tmp_path / "c", "--models", "m", "--datasets", "contamination_gsm8k_min_k_ppl", "--dry-run")
    done = helpers.run(*args, "--data-root", "samples", "--work-dir", tmp_path / "work")
    assert done.returncode == 2 and "engine fake does not give" in done.stderr and "--engine hf" in done.stderr


def test_requests_without_token_statistics_have_the_keys_of_old() -> None:
    (request,) = [_keyed(Request("", "a/0", "ppl", text="x", label="text"), "f")]
    assert request.key == digest(["f", "a/0", "ppl", "x", (), "text", "", None, 0])
    assert _keyed(replace(request, token_statistics=True), "f").key != request.key


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("token_statistics: false", "looks at the tokens"),
        ("labels: [a, b]", "only a single text"),
    ],
)
def test_statistics_of_tokens_are_of_one_text(tmp_path: Path, change: str, part: str) -> None:
    text = "base: contamination_gsm8k_min_k_ppl\n" + change + "\n"
    (tmp_path / "mine_contamination.yaml").write_text(text)
    with pytest.raises(ConfigError, match=part):
        load_benchmark("mine_contamination", config_dirs=[tmp_path])
