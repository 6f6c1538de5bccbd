"""From the options of a command to a checked plan, and from a plan to jobs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalkit.configs.benchmark import select, with_exemplars
from evalkit.configs.catalog import ConfigCatalog, open_catalog
from evalkit.configs.merge import Override, check_targets, parse_override
from evalkit.configs.model import changed, load_model_config, model_from_path
from evalkit.configs.resolve import DatasetChoice, gen_sibling, resolve_datasets, resolve_models, united
from evalkit.core.digest import digest
from evalkit.core.errors import ConfigError, EvalkitError, ModelError
from evalkit.core.records import Benchmark, Job, Kind, ModelSpec, Request, Sample
from evalkit.core.sequences import unique_length
from evalkit.engines.checkpoint import check_checkpoint, check_trust, detect_kind, fetch_checkpoint, identity
from evalkit.engines.openai_api.options import ENGINE as API
from evalkit.engines.openai_api.options import scores_prompts
from evalkit.engines.options import check_options, check_packages
from evalkit.engines.recorded.engine import ENGINE, PREFIX, Outputs, load_outputs, recorded_fingerprint, recorded_model
from evalkit.plan.check import load_benchmark_config
from evalkit.plan.manifest import HUB_ENGINES, Pair, RunPlan
from evalkit.plan.task import Cut, Task, requests_of

SLICE_SAMPLES = 256
"""Most samples of a job: small enough to balance, large enough to fill batches."""
GEN_TOKEN_COST = 8.0
"""A generated token costs about as much as this many characters of prompt."""


@dataclass(frozen=True)
class RunOptions:
    """What a command line, or a call of `evaluate`, asks for."""

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    hf_paths: tuple[str, ...] = ()
    recorded_field: str = ""
    """The field of recorded outputs that holds the text; empty: the usual ones."""
    kind: Kind | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    draws: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `gen` for all benchmarks that generate: `num_samples`, `temperature`."""
    data_root: str | None = None
    tokenizer: str | None = None
    config_dirs: tuple[str, ...] = ()
    limit: int | None = None
    sample: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Planned:
    """A plan, the tasks it loaded on the way, and the models that cannot be used."""

    plan: RunPlan
    tasks: Mapping[Pair, Task]
    broken: Mapping[str, ModelError]
    """model -> why none of its jobs is run; the others go on."""
    recorded: Mapping[Pair, Outputs] = field(default_factory=dict)
    """The outputs of models that are recorded, matched to the samples."""
    remarks: tuple[str, ...] = ()
    """What was done otherwise than asked for."""


def make_plan(options: RunOptions) -> Planned:
    """Resolve names, check configs and data, fingerprint models. EvalkitError before any model loads."""
    if not options.datasets:
        raise ConfigError("no datasets are given", "--datasets NAME…; `run.py list datasets` shows them")
    catalog = open_catalog(options.config_dirs)
    parsed = [parse_override(text) for text in options.overrides]
    models = load_models(options, catalog, [o for for_model, o in parsed if for_model])
    benchmarks, selected, wanted, remarks = load_benchmarks(options, catalog, models, [o for m, o in parsed if not m])
    scoring = {model for model, benchmark in wanted if benchmarks[benchmark].mode != "gen"}
    fingerprints, identities, broken = _fingerprints(models, scoring)
    plan = RunPlan(
        models=models,
        fingerprints=fingerprints,
        identities=identities,
        benchmarks=benchmarks,
        selected=selected,
        pairs=tuple(Pair(m, b) for m, b in wanted),
        cut=Cut(options.limit, options.sample, options.seed),
        seed=options.seed,
        data_root=_absolute(options.data_root),
        tokenizer=options.tokenizer,
    )
    return replace(_load_data(plan, broken), remarks=tuple(remarks))


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


def load_benchmarks(
    options: RunOptions, catalog: ConfigCatalog, models: Mapping[str, ModelSpec], overrides: Sequence[Override]
) -> tuple[dict[str, Benchmark], dict[str, tuple[str, ...]], list[tuple[str, str]], list[str]]:
    """(benchmarks by name, their chosen subsets, the pairs to run, remarks), families resolved by the model's kind."""
    benchmarks: dict[str, Benchmark] = {}
    selected: dict[str, tuple[str, ...]] = {}
    chosen: dict[str, DatasetChoice] = {}
    pairs: list[tuple[str, str]] = []
    remarks: list[str] = []

    def load(choice: DatasetChoice) -> Benchmark:
        earlier = chosen.get(choice.name)
        choice = united(earlier, choice) if earlier else choice  # one run has one choice of a config's subsets
        if choice != earlier:
            benchmark = _load_benchmark(options, choice, catalog, overrides)
            benchmarks[choice.name] = select(benchmark, choice.subsets) if choice.subsets else benchmark
            selected[choice.name] = tuple(m.name for m in benchmarks[choice.name].members) if choice.subsets else ()
            chosen[choice.name] = choice
        return benchmarks[choice.name]

    for model in models.values():
        for choice in resolve_datasets(options.datasets, model.kind, catalog):
            if load(choice).mode != "gen" and not _scores(model):
                sibling = gen_sibling(choice, benchmarks[choice.name].family, catalog)
                if model.engine == ENGINE or sibling is None or load(sibling).mode != "gen":
                    why = f"{choice.name} asks for log-probabilities, {model.name} has texts only"
                    raise ConfigError(why, "choose a gen config: `run.py list datasets '*gen*'`")
                remarks.append(
                    f"{model.name}: {sibling.name} in place of {choice.name}, which asks for log-probabilities: "
                    "a chat API gives texts only"
                )
                choice = sibling
            if (model.name, choice.name) not in pairs:
                pairs.append((model.name, choice.name))
    check_targets(overrides, benchmarks, "benchmark")
    used = {benchmark for _, benchmark in pairs}
    kept = {name: benchmark for name, benchmark in benchmarks.items() if name in used}
    return kept, {name: selected[name] for name in kept}, pairs, remarks


def _load_benchmark(
    options: RunOptions, choice: DatasetChoice, catalog: ConfigCatalog, overrides: Sequence[Override]
) -> Benchmark:
    """One config, with the draws that the command asks for."""
    benchmark = load_benchmark_config(choice.file, catalog, overrides)
    if options.draws and benchmark.mode == "gen":
        drawn = [Override(("gen", key), value) for key, value in options.draws.items()]
        return load_benchmark_config(choice.file, catalog, [*overrides, *drawn])
    return benchmark


def _scores(model: ModelSpec) -> bool:
    """Whether a model may be asked for log-probabilities."""
    return model.engine != ENGINE and (model.engine != API or scores_prompts(model))


def _fingerprints(
    models: Mapping[str, ModelSpec], scoring: Collection[str]
) -> tuple[dict[str, str], dict[str, dict[str, Any]], dict[str, ModelError]]:
    """Digests of the models, and what was digested; one that cannot be used is noted, unless it is the only one.

    `scoring`: those that will be asked for log-probabilities.
    """
    found: dict[str, str] = {}
    identities: dict[str, dict[str, Any]] = {}
    broken: dict[str, ModelError] = {}
    for name, spec in models.items():
        try:
            if spec.engine == ENGINE:
                found[name] = recorded_fingerprint(spec)
                continue
            check_trust(spec)
            check_packages(spec)
            if spec.engine in HUB_ENGINES:
                fetch_checkpoint(spec.path, spec.revision)
                if spec.peft_path:
                    fetch_checkpoint(spec.peft_path)
            check_checkpoint(spec)
            identities[name] = identity(spec)
            found[name] = digest(identities[name])
            if spec.engine == API and name in scoring:
                from evalkit.engines.openai_api.endpoint import check_scoring

                check_scoring(spec)
        except ModelError as error:
            broken[name], found[name] = error, "unreadable"
    if models and len(broken) == len(models):
        hint = next(iter(broken.values())).hint
        raise ModelError("; ".join(f"{n}: {e.message}" for n, e in broken.items()), hint)
    return found, identities, broken


def _load_data(plan: RunPlan, broken: Mapping[str, ModelError]) -> Planned:
    """Read all rows, check them, and put hashes and fingerprints into the plan; all faults at once."""
    tasks: dict[Pair, Task] = {}
    recorded: dict[Pair, Outputs] = {}
    pairs: list[Pair] = []
    benchmarks = dict(plan.benchmarks)
    problems: list[EvalkitError] = []
    for pair in plan.pairs:
        if pair.model in broken:
            pairs.append(pair)
            continue
        try:
            task = _shared(plan, pair, tasks) or plan.task(pair)
            task.check()
            benchmarks[pair.benchmark] = with_exemplars(plan.benchmarks[pair.benchmark], task.exemplar_sha256())
            outputs = _outputs(plan, pair, task)
            draws = outputs.draws if outputs and outputs.draws != task.benchmark.gen.num_samples else 0
            pairs.append(replace(pair, data_fingerprint=task.fingerprint(), draws=draws))
            tasks[pairs[-1]] = task.with_draws(draws) if draws else task
            recorded |= {pairs[-1]: outputs} if outputs else {}
        except EvalkitError as error:
            if str(error) not in map(str, problems):
                problems.append(error)
    if problems:
        first = problems[0]
        raise type(first)("\n".join(p.message for p in problems), first.hint)
    return Planned(replace(plan, pairs=tuple(pairs), benchmarks=benchmarks), tasks, broken, recorded)


def _outputs(plan: RunPlan, pair: Pair, task: Task) -> Outputs | None:
    """A recorded model's outputs, matched to all samples, also those that the run leaves out; None for other models."""
    model = plan.models[pair.model]
    if model.engine != ENGINE:
        return None
    whole = replace(plan, cut=Cut()).task(pair) if plan.cut.is_cut else task
    of_all, of_run = ({s: t.samples(s) for s in task.scored} for t in (whole, task))
    return load_outputs(model, task.benchmark, of_all, of_run)


def _shared(plan: RunPlan, pair: Pair, tasks: Mapping[Pair, Task]) -> Task | None:
    """A task of the same benchmark that another model loaded; built rows depend on the tokenizer."""
    if plan.benchmarks[pair.benchmark].data.build is not None:
        return None
    return next((t for p, t in tasks.items() if p.benchmark == pair.benchmark and not p.draws), None)


def _absolute(path: str | None) -> str | None:
    return path if path is None or path == "samples" else str(Path(path).expanduser().resolve())


def asked(planned: Planned, pair: Pair, sample: Sample) -> list[Request]:
    """The requests of one sample of a planned pair."""
    plan = planned.plan
    return list(
        requests_of(planned.tasks[pair], sample, plan.models[pair.model], plan.fingerprints[pair.model], plan.seed)
    )


def text_of(request: Request) -> str:
    """All that a request gives a model to read."""
    return "".join([request.text, request.continuation, *(turn.text for turn in request.turns)])


def cost_per_sample(planned: Planned, pair: Pair, subset: str) -> float:
    """Characters to be read for one more sample, what it shares with the others left out, and what is written.

    Estimated from the first two samples.
    """
    first, *second = (asked(planned, pair, sample) for sample in planned.tasks[pair].samples(subset)[:2])
    texts = [text_of(request) for request in first]
    own = unique_length([*texts, *map(text_of, second[0])]) - unique_length(texts) if second else unique_length(texts)
    return own + GEN_TOKEN_COST * sum(r.gen.max_out_len for r in first if r.gen)


def make_jobs(planned: Planned) -> list[Job]:
    """Slices of all subsets, the costliest first within each model."""
    jobs: list[Job] = []
    for pair in planned.tasks:
        for subset in planned.tasks[pair].scored:
            jobs += _slices(planned, pair, subset, len(jobs))
    order = list(planned.plan.models)
    return sorted(jobs, key=lambda j: (order.index(j.model), -j.cost, j.id))


def _slices(planned: Planned, pair: Pair, subset: str, first_id: int) -> Iterator[Job]:
    count, cost = len(planned.tasks[pair].samples(subset)), cost_per_sample(planned, pair, subset)
    for number, start in enumerate(range(0, count, SLICE_SAMPLES)):
        stop = min(start + SLICE_SAMPLES, count)
        yield Job(first_id + number, pair.model, pair.benchmark, subset, start, stop, cost * (stop - start))


def default_data_root() -> str | None:
    """The data root of the environment."""
    return os.environ.get("EVALKIT_DATA") or None
