"""A finished run as it lies on the disk: its plan, its scores, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.core.digest import plain
from evalkit.core.errors import StoreError
from evalkit.core.records import Counts, Issue, Score
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
        return limits_of(self.plan)


def limits_of(plan: RunPlan) -> dict[str, str]:
    """Benchmark -> why a run's rows are not the benchmark's own, or not all of them."""
    limits = {}
    for name, benchmark in plan.benchmarks.items():
        if plan.cut.is_cut:
            limits[name] = "limited run (--limit, --sample)"
        elif not benchmark.data.package and plan.uses_sample_data(benchmark):
            limits[name] = "sample data"
    return limits


def encode_score(score: Score) -> dict[str, Any]:
    """A score for JSON: `flag` has the texts of all `issues` in one, `extra` the counts that are not 0, by key."""
    counts = score.counts
    extra = {
        "fragile": counts.fragile, "thinking": counts.reasoning, "unfinished": counts.unfinished,
        "left_out": counts.left_out, **{PROGRAMS + name: n for name, n in counts.programs.items()},
    }  # fmt: skip
    fields = {name: value for name, value in plain(score).items() if name != "counts"}
    return {**fields, "flag": score.flag, "extra": {name: float(n) for name, n in extra.items() if n}}


PROGRAMS = "failure:"
"""Prefix of the keys that count programs by the class of their end."""


def decode_score(stored: Mapping[str, Any]) -> Score:
    """A score from JSON, also as older versions wrote it, without `issues`.

    Raises KeyError, TypeError, ValueError or AttributeError for anything else.
    """
    fields = {name: value for name, value in stored.items() if name not in ("flag", "extra", "issues")}
    extra, flag = stored["extra"], stored["flag"]
    older = [{"kind": "earlier", "text": flag}] if flag else []
    counts = Counts(
        fragile=int(extra.get("fragile", 0)),
        reasoning=int(extra.get("thinking", 0)),
        unfinished=int(extra.get("unfinished", 0)),
        left_out=int(extra.get("left_out", 0)),
        programs={key.removeprefix(PROGRAMS): int(n) for key, n in extra.items() if key.startswith(PROGRAMS)},
    )
    return Score(**fields, issues=tuple(Issue(**issue) for issue in stored.get("issues", older)), counts=counts)


def open_scored(store: RunStore) -> StoredRun:
    """The run and its scores; StoreError when it was not scored, or went on after it was."""
    manifest, stored = store.manifest(), store.scores()
    if stored.get("complete") and manifest.get("status") != COMPLETE:
        raise StoreError(f"{store.folder} was changed after it was scored", f"run.py score {store.folder}")
    try:
        scores = tuple(decode_score(score) for score in stored["scores"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"the scores of {store.folder} cannot be read: {error!r}", f"run.py score {store.folder}"
        ) from error
    return StoredRun(store, manifest, from_manifest(manifest), scores)
