"""`results.json`: every number of a run with what is needed to read it, in one documented form (docs/results.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core.digest import plain
from evalkit.core.records import Benchmark, ModelSpec, Score
from evalkit.core.version import __version__
from evalkit.execution.runner import JobFailure
from evalkit.plan.plan import RunPlan
from evalkit.results.scored import limits_of
from evalkit.scoring.errors import interval_of

SCHEMA = "evalkit.results"
VERSION = 1
"""Raised when a key goes, or means something else; new keys do not raise it."""


def results_of(
    run: str,
    manifest: Mapping[str, Any],
    plan: RunPlan,
    scores: Sequence[Score],
    failures: Sequence[JobFailure],
    notes: Sequence[str],
    complete: bool,
) -> dict[str, Any]:
    """The content of `results.json`."""
    limits = limits_of(plan)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "evalkit": __version__,
        "run": {
            "name": run,
            "created": manifest.get("created"),
            "command": list(manifest.get("command", ())),
            "plan_hash": plan.hash,
            "complete": complete,
            "limit": plan.cut.limit,
            "sample": plan.cut.sample,
            "seed": plan.seed,
        },
        "models": [_model(spec, plan.fingerprints[name]) for name, spec in plan.models.items()],
        "benchmarks": [_benchmark(b, limits.get(name, "")) for name, b in plan.benchmarks.items()],
        "scores": [_score(score) for score in scores],
        "failures": [{**plain(f.job), "cause": f.cause, "hint": f.hint, "log": f.log} for f in failures],
        "notes": list(notes),
    }


def _model(spec: ModelSpec, fingerprint: str) -> dict[str, Any]:
    return {
        "name": spec.name,
        "path": spec.path,
        "kind": spec.kind,
        "engine": spec.engine,
        "fingerprint": fingerprint,
    }


def _benchmark(benchmark: Benchmark, limited: str) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "version": benchmark.hash[:6],
        "hash": benchmark.hash,
        "family": benchmark.family,
        "row": benchmark.row,
        "modes": sorted(benchmark.modes),
        "metric": benchmark.metric.name,
        "limited": limited,
    }


def _score(score: Score) -> dict[str, Any]:
    return {**plain(score), "interval": interval_of(score)}
