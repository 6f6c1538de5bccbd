"""Runs written through the store's own files, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.configs.benchmark import select
from evalkit.configs.catalog import ConfigCatalog
from evalkit.configs.model import model_from
from evalkit.configs.resolve import resolve_datasets
from evalkit.core.records import Benchmark, Kind, Score, Verdict
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.manifest import from_manifest, to_manifest
from evalkit.plan.plan import Pair, PairFacts, RunPlan
from evalkit.plan.task import Cut
from evalkit.report.reference import read_table
from evalkit.results.scored import encode_score
from evalkit.results.store import COMPLETE, INCOMPLETE, RunStore, create_run
from tests import helpers

REFERENCES = helpers.ROOT / "summarizers" / "reference"
CONFIG_OF = {"ceval-test": "ceval", "race-high": "race", "GPQA_diamond": "gpqa"}
"""Published row -> family, where they are not named alike."""
SAMPLES = {"GPQA_diamond": 198, "humaneval": 164, "mbpp": 257, "TheoremQA": 800, "gsm8k": 1319, "mmlu": 14042}


def benchmark(name: str, kind: Kind = "base", subsets: Sequence[str] = ()) -> Benchmark:
    """A config of the project, by its name or family."""
    (choice,) = resolve_datasets([name], kind, ConfigCatalog())
    found = load_benchmark_config(choice.file, ConfigCatalog())
    return select(found, subsets) if subsets else found


def run(
    folder: Path,
    benchmarks: Sequence[Benchmark],
    scores: Sequence[Score],
    verdicts: Mapping[tuple[str, str, str], Sequence[Verdict]] | None = None,
    *,
    fingerprint: str = "f" * 32,
    cut: Cut = Cut(),  # noqa: B008
    models: Sequence[str] = (),
    kind: Kind = "base",
) -> RunStore:
    """A finished run. `verdicts`: (model, benchmark, subset) -> judgements."""
    names = list(models) or list(dict.fromkeys(s.model for s in scores))
    by_name = {b.name: b for b in benchmarks}
    plan = RunPlan(
        models={m: model_from(m, {"path": m, "kind": kind, "engine": "fake"}, "") for m in names},
        fingerprints=dict.fromkeys(names, fingerprint),
        benchmarks=by_name,
        selected={b.name: tuple(m.name for m in b.members) for b in benchmarks},
        pairs=tuple(Pair(m, b) for m in names for b in by_name),
        facts={Pair(m, b): PairFacts("d" * 32) for m in names for b in by_name},
        cut=cut,
        seed=0,
        data_root=None,
        tokenizer=None,
    )
    store = create_run(folder, to_manifest(plan, ["test"]))
    for (model, name, subset), judged in (verdicts or {}).items():
        store.write_verdicts(model, name, subset, judged)
    complete = not any(s.value is None or s.n < s.n_expected for s in scores)
    store.write_scores({"scores": [encode_score(s) for s in scores], "limited": cut.is_cut, "complete": complete})
    store.set_status(COMPLETE if complete else INCOMPLETE)
    return store


def plan_of(store: RunStore) -> RunPlan:
    """The plan of a run."""
    return from_manifest(store.manifest())


def published(table: str, column: str, model: str, shift: Mapping[str, float] | None = None) -> list[Score]:
    """A score for each row of a published table, some of them shifted by so many points."""
    kind: Kind = "chat" if "chat" in table else "base"
    scores = []
    for entry in read_table(REFERENCES / f"{table}.csv").entries:
        config = benchmark(CONFIG_OF.get(entry.row, entry.row), kind)
        value = float(entry.values[column]) + (shift or {}).get(entry.row, 0.0)
        n = SAMPLES.get(entry.row, 1000)
        scores.append(Score(model, config.name, config.hash[:6], config.mode, entry.row, "m", value, n, n, 1.0))
    return scores


def published_run(
    folder: Path, table: str, column: str, model: str, shift: Mapping[str, float] | None = None
) -> RunStore:
    """A run that scored the published numbers."""
    kind: Kind = "chat" if "chat" in table else "base"
    scores = published(table, column, model, shift)
    return run(folder, [benchmark(name, kind) for name in dict.fromkeys(s.benchmark for s in scores)], scores)


def score(row: Benchmark | str, value: float | None, model: str = "m", **more: object) -> Score:
    """A headline over 100 samples; of a benchmark, or of a row that needs none."""
    if isinstance(row, str):
        made = Score(model, f"{row}_gen", "abc123", "gen", row, "accuracy", value, 100, 100)
    else:
        made = Score(model, row.name, row.hash[:6], row.mode, row.row, "accuracy", value, 100, 100)
    return replace(made, **more)  # type: ignore[arg-type]


def right_or_wrong(subset: str, values: Sequence[float]) -> list[Verdict]:
    """A verdict a value, in order."""
    return [Verdict(f"{subset}/{i}", subset, "A" if v else "B", "A", {"value": v}) for i, v in enumerate(values)]
