"""A finished run as it lies on the disk: its plan, its scores, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.core.errors import StoreError
from evalkit.core.records import Score
from evalkit.plan.manifest import from_manifest
from evalkit.plan.plan import RunPlan
from evalkit.results.store import COMPLETE, RunStore


@dataclass(frozen=True)
class StoredRun:
    """What the gate and comparisons read of a run."""

    store: RunStore
    manifest: Mapping[str, Any]
    plan: RunPlan
    scores: tuple[Score, ...]

    def limited(self) -> dict[str, str]:
        """Benchmark -> why its rows are not the benchmark's own, or not all of them."""
        found = {}
        for name, benchmark in self.plan.benchmarks.items():
            if self.plan.cut.is_cut:
                found[name] = "limited run (--limit, --sample)"
            elif not benchmark.data.package and self.plan.uses_sample_data(benchmark):
                found[name] = "sample data"
        return found


def open_scored(store: RunStore) -> StoredRun:
    """The run and its scores; StoreError when it was not scored, or went on after it was."""
    manifest, stored = store.manifest(), store.scores()
    if stored.get("complete") and manifest.get("status") != COMPLETE:
        raise StoreError(f"{store.folder} was changed after it was scored", f"run.py score {store.folder}")
    try:
        scores = tuple(Score(**score) for score in stored["scores"])
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"the scores of {store.folder} cannot be read: {error!r}", f"run.py score {store.folder}"
        ) from error
    return StoredRun(store, manifest, from_manifest(manifest), scores)
