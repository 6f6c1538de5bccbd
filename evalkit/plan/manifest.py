"""What a run consists of, as its manifest keeps it; read by workers and by scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evalkit.configs.benchmark import from_resolved, select
from evalkit.configs.model import model_from
from evalkit.core.digest import digest, plain
from evalkit.core.errors import DataError, StoreError
from evalkit.core.records import Benchmark, ModelSpec
from evalkit.core.version import __version__
from evalkit.data.files import DataRoot
from evalkit.data.sources import open_root
from evalkit.engines.options import performance
from evalkit.engines.recorded.engine import ENGINE as RECORDED
from evalkit.plan.task import Cut, Task
from evalkit.prompts.builders import TextTokenizer

HUB_ENGINES = ("hf", "vllm", "lmdeploy")
"""Engines that read checkpoints, from a folder or the hub."""


@dataclass(frozen=True)
class Pair:
    """One model on one benchmark."""

    model: str
    benchmark: str
    data_fingerprint: str = ""
    """Digest of the rows and exemplars; a needle's rows depend on the model's tokenizer."""
    draws: int = 0
    """Outputs of each sample, where recorded ones come in another number than the benchmark's; 0: the benchmark's."""


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides a run's results."""

    models: Mapping[str, ModelSpec]
    fingerprints: Mapping[str, str]
    benchmarks: Mapping[str, Benchmark]
    selected: Mapping[str, tuple[str, ...]]
    """benchmark -> the subsets asked for; empty: all."""
    pairs: tuple[Pair, ...]
    cut: Cut
    seed: int
    data_root: str | None
    tokenizer: str | None
    identities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the fingerprints are digests of: digests of the files, settings; to tell why two differ."""

    def root_of(self, benchmark: Benchmark) -> DataRoot:
        """Where the benchmark's rows are looked for."""
        root = open_root(self.data_root)
        return DataRoot(root.folder, Path(benchmark.source).parent if benchmark.source else None)

    def task(self, pair: Pair) -> Task:
        """The pair's rows and prompts."""
        benchmark, model = self.benchmarks[pair.benchmark], self.models[pair.model]
        task = Task(benchmark, self.root_of(benchmark), lambda: self.load_tokenizer(model), self.cut)
        return task.with_draws(pair.draws) if pair.draws else task

    def load_tokenizer(self, model: ModelSpec) -> TextTokenizer:
        """The tokenizer that lengths are counted with: the one named, else the model's."""
        from evalkit.engines.tokenizer import load_tokenizer

        if self.tokenizer is None and model.engine == RECORDED:
            raise DataError(
                f"{model.name}: lengths are counted in tokens, and recorded outputs bring no tokenizer",
                "name that of the model that wrote them: --tokenizer DIR_OR_FILE",
            )
        return load_tokenizer(self.tokenizer or model.options.get("tokenizer") or model.path)

    @property
    def hash(self) -> str:
        """Digest of the plan; the same command finds its unfinished run by it."""
        content = {
            "models": dict(self.fingerprints),
            "pairs": [
                [p.model, p.benchmark, self.benchmarks[p.benchmark].hash, p.data_fingerprint] for p in self.pairs
            ],
            "members": {n: [m.name for m in b.members] for n, b in self.benchmarks.items()},
            "cut": asdict(self.cut),
            "seed": self.seed,
        }
        return digest(content)


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
                "subsets": list(plan.selected.get(name, ())),
            }
            for name, benchmark in plan.benchmarks.items()
        },
        "pairs": [asdict(pair) for pair in plan.pairs],
        "cut": asdict(plan.cut),
        "seed": plan.seed,
        "data_root": plan.data_root,
        "tokenizer": plan.tokenizer,
    }


def from_manifest(manifest: Mapping[str, Any]) -> RunPlan:
    """The plan that a manifest keeps; StoreError when it was written by another version's layout."""
    try:
        benchmarks = {}
        for name, entry in manifest["benchmarks"].items():
            benchmark = from_resolved(name, entry["resolved"], entry["source"], entry["hash"])
            benchmarks[name] = select(benchmark, entry["subsets"]) if entry["subsets"] else benchmark
        models = {n: model_from(n, m["resolved"], m["source"]) for n, m in manifest["models"].items()}
        return RunPlan(
            models=models,
            fingerprints={n: m["fingerprint"] for n, m in manifest["models"].items()},
            benchmarks=benchmarks,
            selected={n: tuple(e["subsets"]) for n, e in manifest["benchmarks"].items()},
            pairs=tuple(Pair(**pair) for pair in manifest["pairs"]),
            cut=Cut(**manifest["cut"]),
            seed=manifest["seed"],
            data_root=manifest["data_root"],
            tokenizer=manifest["tokenizer"],
        )
    except (KeyError, TypeError) as error:
        raise StoreError(f"the manifest cannot be read: {error!r}", "it was written by another version") from error
