"""From the options of a command to a checked plan: everything that decides a run's results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evalkit.configs.benchmark import with_exemplars
from evalkit.configs.catalog import expand
from evalkit.core.digest import digest
from evalkit.core.errors import DataError, EvalkitError, ModelError
from evalkit.core.records import Benchmark, ModelSpec, Request, Sample
from evalkit.data.files import DataRoot
from evalkit.data.sources import open_root
from evalkit.engines.catalog import entry_of, identity, preflight
from evalkit.engines.long_prompts import LongPrompts
from evalkit.engines.recorded.engine import Outputs, load_outputs
from evalkit.plan.options import RunOptions
from evalkit.plan.selection import Selection, select_configs
from evalkit.plan.task import Cut, Task, requests_of
from evalkit.prompts.builders import TextTokenizer


@dataclass(frozen=True)
class Pair:
    """One model on one benchmark, by their names."""

    model: str
    benchmark: str


@dataclass(frozen=True)
class PairFacts:
    """What reading the data of a pair brought to light."""

    data_fingerprint: str = ""
    """Digest of the rows and exemplars; a needle's rows depend on the model's tokenizer."""
    draws: int = 0
    """Outputs of each sample, where recorded ones come in another number than the benchmark's; 0: the benchmark's."""
    own_exemplars: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Subset -> samples that stand among their own exemplars."""
    sample_data: bool | None = None
    """Whether the rows are the project's own made-up ones; None in plans of earlier versions."""
    remarks: tuple[str, ...] = ()
    """What must be known of rows that were made: the tokenizer that counted, a corpus that was too short."""


class TaskCache:
    """The tasks of a plan, each loaded when first asked for; two models share one where its rows are the same."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], Task] = {}

    def get(self, plan: RunPlan, pair: Pair) -> Task:
        """The pair's task; DataError when its rows cannot be had."""
        built = any(variant.data.build for variant in plan.benchmarks[pair.benchmark].variants)
        own = built and plan.tokenizer is None  # built rows depend on the tokenizer, which is the model's unless named
        key = (pair.benchmark, pair.model if own else "")
        if key not in self._tasks:
            self._tasks[key] = plan.new_task(pair)
        draws = plan.facts_of(pair).draws
        return self._tasks[key].with_draws(draws) if draws else self._tasks[key]


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides a run's results; the manifest keeps it whole."""

    models: Mapping[str, ModelSpec]
    fingerprints: Mapping[str, str]
    """model -> digest of what decides its replies; UNREADABLE for a model that cannot be used."""
    benchmarks: Mapping[str, Benchmark]
    selected: Mapping[str, tuple[str, ...]]
    """benchmark -> the subsets asked for; empty: all."""
    pairs: tuple[Pair, ...]
    cut: Cut
    seed: int
    data_root: str | None
    tokenizer: str | None
    facts: Mapping[Pair, PairFacts] = field(default_factory=dict)
    identities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the fingerprints are digests of: digests of the files, settings; to tell why two differ."""
    judges: Mapping[str, ModelSpec] = field(default_factory=dict)
    """The models that judge answers."""
    judge_fingerprints: Mapping[str, str] = field(default_factory=dict)
    panel: tuple[str, ...] = ()
    """The judges of benchmarks that name none."""
    code: Literal["refused", "sandboxed", "unsafe"] = "refused"
    """Whether tools may execute what models write; decides no key."""
    tasks: TaskCache = field(default_factory=TaskCache, repr=False, compare=False)

    def facts_of(self, pair: Pair) -> PairFacts:
        """What is known of the pair's data."""
        return self.facts.get(pair, PairFacts())

    def root_of(self, benchmark: Benchmark) -> DataRoot:
        """Where the benchmark's rows are looked for."""
        root = open_root(self.data_root)
        return DataRoot(root.folder, Path(benchmark.source).parent if benchmark.source else None)

    def uses_sample_data(self, benchmark: Benchmark) -> bool:
        """Whether the rows are the project's own made-up ones.

        Plans of earlier versions do not keep it: there it is false where the data root is gone.
        """
        for pair, facts in self.facts.items():
            if pair.benchmark == benchmark.name and facts.sample_data is not None:
                return facts.sample_data
        try:
            return self.root_of(benchmark).is_sample
        except DataError:
            return False

    def task(self, pair: Pair) -> Task:
        """The pair's rows and prompts, read once."""
        return self.tasks.get(self, pair)

    def new_task(self, pair: Pair, cut: Cut | None = None) -> Task:
        """The same, read anew; `cut` takes other rows than the run does."""
        benchmark, model = self.benchmarks[pair.benchmark], self.models[pair.model]
        return Task(benchmark, self.root_of(benchmark), lambda: self.load_tokenizer(model), cut or self.cut)

    def requests(self, pair: Pair, sample: Sample) -> Iterator[Request]:
        """The requests of one sample, in label order or by draw; the key decides what a resumed run skips."""
        model, fingerprint = self.models[pair.model], self.fingerprints[pair.model]
        return requests_of(self.task(pair), sample, model, fingerprint, self.seed)

    def load_tokenizer(self, model: ModelSpec) -> TextTokenizer:
        """The tokenizer that lengths are counted with: the one named, else the model's."""
        from evalkit.engines.tokenizer import load_tokenizer

        if self.tokenizer is None and entry_of(model).recorded:
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
                [p.model, p.benchmark, self.benchmarks[p.benchmark].hash, self.facts_of(p).data_fingerprint]
                for p in self.pairs
            ],
            "members": {n: [m.name for m in b.members] for n, b in self.benchmarks.items()},
            "cut": asdict(self.cut),
            "seed": self.seed,
        }
        judges = {"judges": [dict(self.judge_fingerprints), self.panel]} if self.judges else {}
        return digest({**content, **judges})


UNREADABLE = "unreadable"
"""Fingerprint of a model that cannot be used."""


@dataclass(frozen=True)
class Planned:
    """A plan whose data was read and checked, and what came to light on the way."""

    plan: RunPlan
    broken: Mapping[str, ModelError] = field(default_factory=dict)
    """model -> why none of its jobs is run; the others go on."""
    recorded: Mapping[Pair, Outputs] = field(default_factory=dict)
    """The outputs of models that are recorded, matched to the samples."""
    warnings: tuple[str, ...] = ()
    """What is done otherwise than asked for."""
    kept: frozenset[Pair] = frozenset()
    """Pairs of the run that is extended which the command does not name: they are scored, not asked."""

    @property
    def runnable(self) -> tuple[Pair, ...]:
        """The pairs that are asked: the command's, where the model can be used."""
        return tuple(pair for pair in self.plan.pairs if pair.model not in self.broken and pair not in self.kept)


Refine = Callable[[Selection], Selection]


def make_plan(options: RunOptions, refine: Refine = lambda selection: selection) -> Planned:
    """Resolve names, check configs and data, fingerprint models. EvalkitError before any model loads.

    `refine` is given the selection before anything is read.
    """
    selection = refine(select_configs(options))
    identities, broken = _identify(selection)
    plan = RunPlan(
        models=selection.models,
        fingerprints={name: UNREADABLE if name in broken else digest(identities[name]) for name in selection.models},
        identities=identities,
        benchmarks=selection.benchmarks,
        selected=selection.subsets,
        pairs=tuple(Pair(model, benchmark) for model, benchmark in selection.pairs),
        cut=Cut(options.limit, options.sample, options.seed),
        seed=options.seed,
        judges=selection.judges,
        judge_fingerprints=_judge_fingerprints(selection.judges),
        panel=tuple(n for pattern in options.judges for n in expand(pattern, selection.judges)),
        data_root=_absolute(options.data_root),
        tokenizer=options.tokenizer,
    )
    return _read_data(Planned(plan, broken, warnings=selection.warnings))


def _identify(selection: Selection) -> tuple[dict[str, dict[str, Any]], dict[str, ModelError]]:
    """(model -> what decides its replies, model -> why it cannot be used); ModelError when none can be used."""
    identities: dict[str, dict[str, Any]] = {}
    broken: dict[str, ModelError] = {}
    scoring = selection.scoring_models()
    for name, spec in selection.models.items():
        try:
            preflight(spec)
            identities[name] = identity(spec)
            if name in scoring:
                entry_of(spec).check_scoring(spec)
        except ModelError as error:
            broken[name] = error
    if len(broken) == len(selection.models):
        hint = next(iter(broken.values())).hint
        raise ModelError("; ".join(f"{n}: {e.message}" for n, e in broken.items()), hint)
    return identities, broken


def _judge_fingerprints(judges: Mapping[str, ModelSpec]) -> dict[str, str]:
    """Digests of what decides the judges' replies; ModelError when one cannot be used."""
    for spec in judges.values():
        preflight(spec)
    return {name: digest(identity(spec)) for name, spec in judges.items()}


def _read_data(planned: Planned) -> Planned:
    """Read all rows, check them, and put hashes and fingerprints into the plan; all faults at once."""
    plan = planned.plan
    facts: dict[Pair, PairFacts] = {}
    recorded: dict[Pair, Outputs] = {}
    benchmarks = dict(plan.benchmarks)
    problems: list[EvalkitError] = []
    warnings: dict[str, None] = dict.fromkeys(planned.warnings)
    for pair in planned.runnable:
        try:
            if (found := long_prompts(plan, pair)) is not None:
                found.check()
            task = plan.task(pair)
            task.check()
            benchmarks[pair.benchmark] = with_exemplars(plan.benchmarks[pair.benchmark], task.exemplar_sha256())
            outputs = _recorded_outputs(plan, pair, task)
            draws = outputs.draws if outputs and outputs.draws != task.benchmark.gen.num_samples else 0
            fingerprint, remarks = task.fingerprint(), tuple(task.remarks.values())
            facts[pair] = PairFacts(fingerprint, draws, task.own_exemplars(), task.root.is_sample, remarks)
            warnings.update(dict.fromkeys([*task.gold_notes(), *_exemplar_notes(pair, facts[pair])]))
            recorded |= {pair: outputs} if outputs else {}
        except EvalkitError as error:
            if str(error) not in map(str, problems):
                problems.append(error)
    if problems:
        first = problems[0]
        raise type(first)("\n".join(p.message for p in problems), first.hint)
    plan = replace(plan, facts=facts, benchmarks=benchmarks)
    return replace(planned, plan=plan, recorded=recorded, warnings=tuple(warnings))


LONG = 8192
"""Tokens of a row from which its memory is planned."""


def long_prompts(plan: RunPlan, pair: Pair) -> LongPrompts | None:
    """What the longest rows of a benchmark take whose subsets are lengths; None for other pairs."""
    model, benchmark = plan.models[pair.model], plan.benchmarks[pair.benchmark]
    lengths = [int(m.variables["length"]) for m in benchmark.members if "length" in m.variables]
    longest = max(lengths, default=0)
    return entry_of(model).long_prompts(model, longest) if longest >= LONG else None


def _exemplar_notes(pair: Pair, facts: PairFacts) -> list[str]:
    return [
        f"{pair.benchmark} [{subset}]: {count} samples stand among their own exemplars, whose answers the prompt shows"
        for subset, count in facts.own_exemplars.items()
    ]


def _recorded_outputs(plan: RunPlan, pair: Pair, task: Task) -> Outputs | None:
    """A recorded model's outputs, matched to all samples, also those that the run leaves out; None for other models."""
    model = plan.models[pair.model]
    if not entry_of(model).recorded:
        return None
    whole = plan.new_task(pair, Cut()) if plan.cut.is_cut else task
    of_all, of_run = ({s: t.samples(s) for s in task.scored} for t in (whole, task))
    return load_outputs(model, task.benchmark, of_all, of_run)


def _absolute(path: str | None) -> str | None:
    return path if path is None or path == "samples" else os.path.realpath(os.path.expanduser(path))
