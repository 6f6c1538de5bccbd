"""Contamination, measured on a model of which is known what it was trained on: the facts of its world, not others."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests import helpers
from tools.embedded.facts import filled
from tools.embedded.world import Fact, world

pytestmark = pytest.mark.timeout(1800)  # twenty seeds on a loaded machine

TEXTS = 80
"""Of each set."""
SURE = 0.01
LOSSES = """
mode: ppl
labels: [text]
data: {{file: "{seed}/{{{{ subset }}}}.jsonl"}}
prompt: "{{{{ text }}}}"
metric: mean_loss
average: none
subsets: [train, test, ref]
contrast: loss_gaps
"""
LEAST = LOSSES.replace("metric: mean_loss", "metric: {{min_k: 20}}\ntoken_statistics: true").replace(
    "loss_gaps", "membership"
)
PAIRED = """
mode: ppl
labels: [text]
data: {{file: "{seed}/{file}.jsonl"}}
fields: {{loss_of: text}}
prompt: "{{{{ loss_of }}}}"
metric: mean_loss
average: none
subsets: [original: {{side: original}}, paraphrase: {{side: paraphrase}}]
parts: {{side: {{paraphrase: {{fields: {{loss_of: rephrase}}}}}}}}
contrast: paired_loss
"""


def sentences(facts: Sequence[Fact], dice: random.Random) -> list[str]:
    return ["".join(filled(dice.choice(f.relation.said["en"]), f, "en")) for f in facts]


def untrue(fact: Fact, dice: random.Random) -> Fact:
    """The same subject and kind with a value that no training text gives it."""
    return replace(fact, value=dice.choice([v for v in world().values[fact.relation.name] if v != fact.value]))


def write_sets(folder: Path, dice: random.Random) -> None:
    """train and test: facts that were trained on; ref: facts that were not; pairs of true and untrue, and of untrue."""
    facts = dice.sample(world().facts, 3 * TEXTS)
    train, test, others = facts[:TEXTS], facts[TEXTS : 2 * TEXTS], facts[2 * TEXTS :]
    texts = {"train": sentences(train, dice), "test": sentences(test, dice)}
    texts["ref"] = sentences([untrue(f, dice) for f in others], dice)
    rows = {name: [{"text": text} for text in made] for name, made in texts.items()}
    for name, first in (("told", test), ("alike", [untrue(f, dice) for f in test])):
        second = [untrue(replace(f), dice) for f in test]
        forms = [dice.choice(f.relation.said["en"]) for f in test]
        a, b = (["".join(filled(s, f, "en")) for s, f in zip(forms, x, strict=True)] for x in (first, second))
        rows[name] = [{"text": x, "rephrase": y} for x, y in zip(a, b, strict=True)]
    folder.mkdir(parents=True)
    for name, made in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))


@pytest.fixture(scope="module", params=[4, pytest.param(20, marks=pytest.mark.slow)])
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """One run over so many seeds."""
    place = tmp_path_factory.mktemp("contamination")
    configs = place / "configs" / "dataset_configs"
    configs.mkdir(parents=True)
    for seed in range(request.param):
        write_sets(place / "data" / str(seed), random.Random(seed))
        (configs / f"sets_{seed}.yaml").write_text(f"row: sets_{seed}\n" + LOSSES.format(seed=seed))
        (configs / f"least_{seed}.yaml").write_text(f"row: least_{seed}\n" + LEAST.format(seed=seed))
        for name in ("told", "alike"):
            text = f"row: {name}_{seed}\n" + PAIRED.format(seed=seed, file=name)
            (configs / f"{name}_{seed}.yaml").write_text(text)
    done = helpers.run(
        "--models", "embedded_base", "--datasets", "sets_*", "least_*", "told_*", "alike_*",
        "--config-dir", place / "configs",
        "--data-root", place / "data", "--work-dir", place / "out", "--max-num-workers", 1, timeout=1700,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Contamination" in done.stdout and "not its cause" in done.stdout
    return helpers.run_folder(place / "out")


def p_values(run: Path, row: str) -> list[float]:
    """The p-values of a row, one a seed."""
    scores = json.loads((run / "scores/scores.json").read_text())["scores"]
    before, after = row.split("{}")
    found = [s["p_value"] for s in scores if s["row"].startswith(before) and s["row"].endswith(after)]
    assert len(found) in (4, 20)
    return found


def test_a_set_that_was_trained_on_is_told_from_one_that_was_not(run: Path) -> None:
    assert all(p < SURE for p in p_values(run, "sets_{}-delta1"))
    assert all(p < SURE for p in p_values(run, "told_{}-paired"))


@pytest.mark.parametrize("method", ["min_k", "min_k_pp"])
def test_the_least_likely_tokens_tell_them_too(run: Path, method: str) -> None:
    for sets in ("test", "train"):
        values = p_values(run, f"least_{{}}-{method}-{sets}")
        assert all(p < SURE for p in values), values
    values = p_values(run, f"least_{{}}-{method}-splits")
    assert all(p >= SURE for p in values), values
    assert len(values) < 20 or 0.2 < sum(values) / len(values) < 0.8, "p-values of equal sets are spread evenly"
    assert "leave hardly a trace" in (run / "report" / "summary.txt").read_text()


def test_equal_sets_are_not(run: Path) -> None:
    for row in ("sets_{}-delta2", "alike_{}-paired"):
        values = p_values(run, row)
        assert all(p >= SURE for p in values), values
        assert len(values) < 20 or 0.2 < sum(values) / len(values) < 0.8, "p-values of equal sets are spread evenly"
