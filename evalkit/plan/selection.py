"""From names to configs: the models, the benchmarks, and which model is run on which benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evalkit.configs.benchmark import select
from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.configs.merge import Override, check_targets, parse_override
from evalkit.configs.model import changed, load_model_config, model_from_path
from evalkit.configs.resolve import DatasetChoice, gen_sibling, resolve_datasets, resolve_models, united
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, ModelSpec
from evalkit.engines.catalog import check_options, entry_of
from evalkit.engines.checkpoint import detect_kind, fetch_checkpoint
from evalkit.engines.recorded.engine import PREFIX, recorded_model
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.options import RunOptions


@dataclass(frozen=True)
class Selection:
    """The configs that a command names, resolved."""

    models: Mapping[str, ModelSpec]
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """benchmark -> the subsets asked for; empty: all."""
    choices: Mapping[str, DatasetChoice] = field(default_factory=dict)
    """benchmark -> the choice that it was loaded for; one run has one choice of a config's subsets."""
    pairs: tuple[tuple[str, str], ...] = ()
    """(model, benchmark), in the order of the command."""
    warnings: tuple[str, ...] = ()
    """What is done otherwise than asked for."""

    def with_pair(self, model: str, benchmark: Benchmark, choice: DatasetChoice) -> Selection:
        """This selection and one more pair."""
        pair = (model, benchmark.name)
        subsets = tuple(member.name for member in benchmark.members) if choice.subsets else ()
        return replace(
            self,
            benchmarks={**self.benchmarks, benchmark.name: benchmark},
            subsets={**self.subsets, benchmark.name: subsets},
            choices={**self.choices, benchmark.name: choice},
            pairs=self.pairs if pair in self.pairs else (*self.pairs, pair),
        )

    def scoring_models(self) -> set[str]:
        """Models that will be asked for log-probabilities."""
        return {model for model, benchmark in self.pairs if self.benchmarks[benchmark].modes != {"gen"}}


def select_configs(options: RunOptions) -> Selection:
    """Resolve all names of a command; ConfigError with near matches."""
    if not options.datasets:
        raise ConfigError("no datasets are given", "--datasets NAME…; `run.py list datasets` shows them")
    catalog = open_catalog(options.config_dirs)
    parsed = [parse_override(text) for text in options.overrides]
    overrides = [override for for_model, override in parsed if not for_model]
    selection = Selection(load_models(options, catalog, [override for for_model, override in parsed if for_model]))
    for model in selection.models.values():
        for choice in resolve_datasets(options.datasets, model.kind, catalog):
            selection = _add(selection, model, choice, options, catalog, overrides)
    check_targets(overrides, selection.benchmarks, "benchmark")
    return selection


def load_models(options: RunOptions, catalog: ConfigCatalog, overrides: Sequence[Override]) -> dict[str, ModelSpec]:
    """The models that are named, and those of bare paths."""
    models: dict[str, ModelSpec] = {}
    recorded = [name.removeprefix(PREFIX) for name in options.models if name.startswith(PREFIX)]
    for name, file in resolve_models([n for n in options.models if not n.startswith(PREFIX)], catalog):
        changes = {**options.model_options, **({"kind": options.kind} if options.kind else {})}
        models[name] = changed(load_model_config(file, catalog, overrides), (), changes)
    bare: list[ModelSpec] = []
    for path in options.hf_paths:
        fetch_checkpoint(path)
        kind = options.kind or detect_kind(path)
        bare.append(model_from_path(path, kind, overrides, options.model_options))
    bare += [changed(recorded_model(p, options.kind, options.recorded_field), overrides, {}) for p in recorded]
    for spec in bare:
        if spec.name in models:
            raise ConfigError(f"two models are called {spec.name!r}", "rename one, or give it a config of its own")
        models[spec.name] = spec
    check_targets(overrides, models, "model")
    for spec in models.values():
        check_options(spec)
    if not models:
        raise ConfigError("no model is given", "--models NAME… or --hf-path DIR; `run.py list models` shows names")
    return models


def _add(
    selection: Selection,
    model: ModelSpec,
    choice: DatasetChoice,
    options: RunOptions,
    catalog: ConfigCatalog,
    overrides: Sequence[Override],
) -> Selection:
    """The selection with one config for one model; a gen config where the engine cannot score prompts."""
    benchmark, choice = _chosen(selection, choice, options, catalog, overrides)
    engine = entry_of(model)
    if benchmark.modes == {"gen"} or engine.scores_prompts(model):
        return selection.with_pair(model.name, benchmark, choice)
    sibling = gen_sibling(choice, benchmark.family, catalog) if engine.gen_instead else None
    if sibling is not None:
        instead, choice = _chosen(selection, sibling, options, catalog, overrides)
        if instead.modes == {"gen"}:
            warning = (
                f"{model.name}: {instead.name} in place of {benchmark.name}, which asks for log-probabilities: "
                "its engine gives texts only"
            )
            selection = selection.with_pair(model.name, instead, choice)
            return replace(selection, warnings=(*selection.warnings, warning))
    raise ConfigError(
        f"{benchmark.name} asks for log-probabilities, {model.name} has texts only",
        "choose a gen config: `run.py list datasets '*gen*'`",
    )


def _chosen(
    selection: Selection,
    choice: DatasetChoice,
    options: RunOptions,
    catalog: ConfigCatalog,
    overrides: Sequence[Override],
) -> tuple[Benchmark, DatasetChoice]:
    """(the benchmark of one config, what was chosen of it by this and earlier models); loaded once for all of them."""
    earlier = selection.choices.get(choice.name)
    choice = united(earlier, choice) if earlier else choice
    if choice == earlier:
        return selection.benchmarks[choice.name], choice
    benchmark = load_benchmark_config(choice.file, catalog, overrides)
    if options.draws and "gen" in benchmark.modes:
        drawn = [Override(("gen", key), value) for key, value in options.draws.items()]
        benchmark = load_benchmark_config(choice.file, catalog, [*overrides, *drawn])
    return select(benchmark, choice.subsets) if choice.subsets else benchmark, choice
