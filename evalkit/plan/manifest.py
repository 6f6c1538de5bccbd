"""The plan as a run's manifest keeps it; read by workers, by scoring and by reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalkit.configs.benchmark import from_resolved, select, with_golds
from evalkit.configs.model import model_from
from evalkit.core.digest import plain
from evalkit.core.errors import StoreError
from evalkit.core.version import __version__
from evalkit.engines.catalog import performance
from evalkit.plan.plan import Pair, PairFacts, RunPlan
from evalkit.plan.task import Cut


def to_manifest(plan: RunPlan, command: Sequence[str]) -> dict[str, Any]:
    """The plan as the manifest's values."""
    return {
        "evalkit": __version__,
        "command": list(command),
        "plan_hash": plan.hash,
        "models": {
            name: {
                "resolved": plain(spec.resolved),
                "source": spec.source,
                "fingerprint": plan.fingerprints[name],
                "identity": plain(plan.identities.get(name, {})),
                "performance": performance(spec),
            }
            for name, spec in plan.models.items()
        },
        "benchmarks": {
            name: {
                "resolved": plain(benchmark.resolved),
                "source": benchmark.source,
                "hash": benchmark.hash,
                "golds": benchmark.golds,
                "subsets": list(plan.selected.get(name, ())),
            }
            for name, benchmark in plan.benchmarks.items()
        },
        "pairs": [{**asdict(pair), **asdict(plan.facts_of(pair))} for pair in plan.pairs],
        "cut": asdict(plan.cut),
        "seed": plan.seed,
        "data_root": plan.data_root,
        "tokenizer": plan.tokenizer,
        "code": plan.code,
        "judges": {
            name: {
                "resolved": plain(spec.resolved),
                "source": spec.source,
                "fingerprint": plan.judge_fingerprints[name],
            }
            for name, spec in plan.judges.items()
        },
        "panel": list(plan.panel),
    }


def from_manifest(manifest: Mapping[str, Any]) -> RunPlan:
    """The plan that a manifest keeps; StoreError when it was written by another version's layout."""
    try:
        benchmarks = {}
        for name, entry in manifest["benchmarks"].items():
            benchmark = from_resolved(name, entry["resolved"], entry["source"], entry["hash"])
            if "golds" not in entry:  # written before golds were checked: its rows were all judged, and still are
                benchmark = with_golds(benchmark, "as_published")
            benchmarks[name] = select(benchmark, entry["subsets"]) if entry["subsets"] else benchmark
        pairs = {
            Pair(p["model"], p["benchmark"]): PairFacts(
                p["data_fingerprint"],
                p["draws"],
                p.get("own_exemplars", {}),
                p.get("sample_data"),
                tuple(p.get("remarks", ())),
            )
            for p in manifest["pairs"]
        }
        models = {n: model_from(n, m["resolved"], m["source"]) for n, m in manifest["models"].items()}
        return RunPlan(
            models=models,
            fingerprints={n: m["fingerprint"] for n, m in manifest["models"].items()},
            benchmarks=benchmarks,
            selected={n: tuple(e["subsets"]) for n, e in manifest["benchmarks"].items()},
            pairs=tuple(pairs),
            facts=pairs,
            identities={n: m.get("identity", {}) for n, m in manifest["models"].items()},
            cut=Cut(**manifest["cut"]),
            seed=manifest["seed"],
            data_root=manifest["data_root"],
            tokenizer=manifest["tokenizer"],
            code=manifest.get("code", "refused"),
            judges={n: model_from(n, j["resolved"], j["source"]) for n, j in manifest.get("judges", {}).items()},
            judge_fingerprints={n: j["fingerprint"] for n, j in manifest.get("judges", {}).items()},
            panel=tuple(manifest.get("panel", ())),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"the manifest cannot be read: {error!r}", "it was written by another version") from error
