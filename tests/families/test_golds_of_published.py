"""Golds of the published data sets: no check refuses a published benchmark, or leaves out one of its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.api import load_benchmark
from evalkit.configs.catalog import open_catalog
from evalkit.core.errors import AbsentData
from evalkit.core.records import Reply
from evalkit.plan.task import Task
from evalkit.results.index import IndexedSample
from evalkit.scoring.score import Options, SubsetResult, score_subset

REPEATED = ("contamination", "maj", "cdme", "leval", "longbench", "ruler")
"""Other questions, or more draws, of rows that another config has; long texts, whose own tests look at every row."""
JUDGED = ("alignbench", "alpaca_eval", "mtbench")
"""No gold decides there, a model judges."""
LEFT_OUT = ("_", "demo", "needle", *REPEATED, *JUDGED)
CONFIGS = sorted(
    name
    for name in open_catalog().files("dataset_configs")
    if not name.startswith(LEFT_OUT) and "_agent_" not in name  # the rows of gsm8k and math
)
ODD_GOLDS = {
    "math_0shot_gen_393424": ["number_theory"],  # a solution without a box
    "maj4_math_gen": ["number_theory"],
    "agieval_mixed_2f14ad": ["gaokao-mathqa", "jec-qa-kd"],  # several letters for a choice of one; no gold
    "agieval_gen_64afd3": ["jec-qa-kd"],
}


def scored(task: Task, subset: str) -> SubsetResult:
    """The subset as a model that always answers A, or likes the last label best, gets it scored."""
    benchmark = task.part(subset)
    names = benchmark.labels if benchmark.mode != "gen" else [str(i) for i in range(benchmark.gen.num_samples)]
    indexed, replies = [], {}
    for sample in task.samples(subset):
        keys = {name: f"{sample.id}/{name}" for name in names}
        indexed.append(IndexedSample(sample, keys))
        for i, key in enumerate(keys.values()):
            replies[key] = Reply(key, text="A", nll=float(len(names) - i), n_tokens=1)
    return score_subset(benchmark, subset, indexed, replies, Options())


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_of_a_published_benchmark_counts(shared: Path, config: str) -> None:
    task = load_benchmark(config, shared / "data").task
    checked = 0
    for member in task.benchmark.members:
        part = load_benchmark(f"{config}:{member.name}", shared / "data").task
        try:
            subsets = part.scored
            part.check()
        except AbsentData:
            continue
        for subset in subsets:
            result = scored(part, subset)
            rows = len(part.samples(subset))
            draws = part.part(subset).gen.num_samples if part.part(subset).mode == "gen" else 1
            assert (result.n, result.n_expected) == (rows * draws, rows * draws), subset
            assert not result.faults and not result.without_gold, result.first_fault
            checked += 1
    if not checked:
        pytest.skip(f"no rows of {config} in the shared data")


@pytest.mark.parametrize(("config", "subsets"), ODD_GOLDS.items())
def test_odd_golds_are_named_in_the_plan(shared: Path, config: str, subsets: list[str]) -> None:
    notes = load_benchmark(config, shared / "data").task.gold_notes()
    assert len(notes) == len(subsets)
    assert all(
        f"[{subset}]" in note and "as in the published" in note for subset, note in zip(subsets, notes, strict=True)
    )
