"""One benchmark with its rows and exemplars: the samples, prompts and requests of a run."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from evalkit.core import template
from evalkit.core.calls import bound_arguments, make_metric, make_solver
from evalkit.core.digest import digest, file_sha256
from evalkit.core.errors import AbsentData, ConfigError, DataError
from evalkit.core.records import (
    Benchmark,
    DataSpec,
    GenSettings,
    Kind,
    Member,
    ModelSpec,
    Rendered,
    Request,
    Row,
    Sample,
)
from evalkit.data import sources
from evalkit.data.files import DataRoot, SplitSource, read_file
from evalkit.engines.catalog import entry_of
from evalkit.plan.check import check_templates
from evalkit.prompts import builders, fewshot, rendering, rows
from evalkit.prompts.rendering import Exemplars


@dataclass(frozen=True)
class Cut:
    """Which rows of every subset are taken: the first `limit`, or a random `sample` by `seed`."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0

    @property
    def is_cut(self) -> bool:
        """Whether rows are left out, so that scores are not the benchmark's."""
        return self.limit is not None or self.sample is not None

    def apply(self, items: Sequence[Sample], salt: str) -> list[Sample]:
        """The chosen samples, in row order."""
        if self.sample is not None and self.sample < len(items):
            chosen = random.Random(f"{self.seed}/{salt}").sample(range(len(items)), self.sample)
            items = [items[i] for i in sorted(chosen)]
        return list(items if self.limit is None else items[: self.limit])


def splits_of(benchmark: Benchmark) -> list[tuple[str, str]]:
    """(row prefix, split) of every run of a member."""
    split = benchmark.data.split
    if isinstance(split, str):
        return [("", split)]
    return [(prefix if prefix.endswith("-") else prefix + "-", name) for prefix, name in split.items()]


def subsets_of(benchmark: Benchmark) -> list[str]:
    """Names of a benchmark's subsets, in config order; one for each split of a member."""
    return [prefix + member.name for member, prefix, _ in _runs_of_members(benchmark)]


def part_of(benchmark: Benchmark, subset: str) -> Benchmark:
    """The benchmark as it is for one subset: its mode, data, prompt, extraction and metric."""
    return benchmark.part(_find(benchmark, subset)[0].variables)


def _runs_of_members(benchmark: Benchmark) -> Iterator[tuple[Member, str, str]]:
    """(member, row prefix, split) of every subset."""
    for member in benchmark.members:
        for prefix, split in splits_of(benchmark.part(member.variables)):
            yield member, prefix, split


def _find(benchmark: Benchmark, subset: str) -> tuple[Member, str, str]:
    """The member of a subset, its row prefix and its split."""
    for member, prefix, split in _runs_of_members(benchmark):
        if subset == prefix + member.name:
            return member, prefix, split
    raise ConfigError(f"{benchmark.name} has no subset {subset!r}", "`run.py show NAME` lists them")


class Task:
    """A benchmark bound to a data root; rows, exemplars and samples are read once, when asked for."""

    def __init__(
        self,
        benchmark: Benchmark,
        root: DataRoot,
        tokenizer: Callable[[], builders.TextTokenizer] | None = None,
        cut: Cut | None = None,
    ) -> None:
        self.benchmark = benchmark
        self.root = root
        self.cut = cut or Cut()
        self._tokenizer = tokenizer
        self._rows: dict[SplitSource, list[Row]] = {}
        self._exemplars: dict[str, Exemplars] = {}
        self._samples: dict[str, list[Sample]] = {}
        self._build_cache: dict[str, Any] = {}
        self._absent: dict[str, str] | None = None
        self.remarks: dict[str, str] = {}
        """Topic -> what builders have to say of the rows that they made so far."""

    def with_draws(self, draws: int) -> Task:
        """The same task, each sample generated `draws` times; what was loaded is shared."""
        twin = copy.copy(self)
        twin.benchmark = self.benchmark.with_draws(draws)
        return twin

    def part(self, subset: str) -> Benchmark:
        """The benchmark as it is for one subset: its mode, data, prompt, extraction and metric."""
        return part_of(self.benchmark, subset)

    @property
    def subsets(self) -> list[str]:
        """Names of the subsets, in config order, one for each split of a member; optional ones without rows are not."""
        return [subset for subset in subsets_of(self.benchmark) if subset not in self.absent]

    @property
    def absent(self) -> Mapping[str, str]:
        """Optional subsets whose rows are nowhere to be found -> what would be needed."""
        if self._absent is None:
            optional = {s: self.part(s).data.optional for s in subsets_of(self.benchmark)}
            self._absent = {s: needed for s, needed in optional.items() if needed and not self._present(s)}
        return self._absent

    def _present(self, subset: str) -> bool:
        try:
            self.samples(subset)
        except AbsentData:
            return False
        return True

    @property
    def scored(self) -> list[str]:
        """The subsets that can be scored. Of several splits, one may come without answers (C-Eval's test split)."""
        if isinstance(self.benchmark.data.split, str):
            return self.subsets
        found = [s for s in self.subsets if any(x.gold not in (None, "") for x in self.samples(s))]
        if not found:
            raise DataError(f"{self.benchmark.name}: no row has a gold answer", "the data files have no answers")
        return found

    def samples(self, subset: str) -> list[Sample]:
        """The scored samples of a subset, cut to what the run asks for."""
        if subset not in self._samples:
            member, prefix, split = _find(self.benchmark, subset)
            read, place = self._member_rows(member, split), self._place(member, split)
            made = list(rows.samples(self.part(subset), member, read, split, prefix, place))
            if not made:
                raise DataError(f"{self.benchmark.name} [{subset}]: no rows", "check `where` and the data files")
            self._samples[subset] = self.cut.apply(made, subset)
        return self._samples[subset]

    def exemplars(self, subset: str) -> Exemplars:
        """The few-shot part of a subset's prompts."""
        member, _, _ = _find(self.benchmark, subset)
        if member.name not in self._exemplars:
            self._exemplars[member.name] = self._load_exemplars(member)
            fewshot.check_fit(self.benchmark, self._exemplars[member.name])
        return self._exemplars[member.name]

    def render(self, sample: Sample, kind: Kind) -> Rendered:
        """The prompts of one sample."""
        return rendering.render(self.part(sample.subset), sample, self.exemplars(sample.subset), kind)

    def exemplar_sha256(self) -> str:
        """Digest of the exemplar files in use; empty when the exemplars are not in files of their own.

        Where the files are those that the config declares, it is the declaration itself: the version
        is then the same for every choice of subsets.
        """
        spec, files = self.benchmark.shots, self._exemplar_files()
        if spec is None or not files:
            return ""
        if all(declared == found for declared, found in files.values()):
            return spec.sha256
        digests = [found for _, found in files.values()]
        return digests[0] if len(digests) == 1 else digest(digests)

    def _exemplar_files(self) -> dict[str, tuple[str, str]]:
        """File -> (declared, found) sha256, for every exemplar file of the subsets."""
        spec = self.benchmark.shots
        source = (spec.file or spec.turns or spec.text) if spec else ""
        if spec is None or not source:
            return {}
        files: dict[str, tuple[str, str]] = {}
        for member in self.benchmark.members:
            name = self._filled(source, member)
            if name not in files:
                found = file_sha256(sources.read_exemplar_file(name, self.root))
                files[name] = (self._filled(spec.sha256, member), found)
        return files

    def fingerprint(self) -> str:
        """Digest of all rows and exemplars of the benchmark."""
        parts = [[s, [[x.id, x.row, x.gold] for x in self.samples(s)]] for s in self.subsets]
        shots = [[e.text, list(e.turns)] for e in (self.exemplars(s) for s in self.subsets)]
        return digest([parts, shots])

    def own_exemplars(self) -> dict[str, int]:
        """Subset -> how many of its samples stand among their own exemplars; those with none are left out."""
        counts = {s: len(fewshot.among(self.part(s), self.samples(s), self.exemplars(s))) for s in self.subsets}
        return {subset: count for subset, count in counts.items() if count}

    def check(self) -> None:
        """Load everything and render one prompt of each subset; errors come before any model loads."""
        for subset in self.subsets:
            first = self.samples(subset)[:1]
            if first:
                part = self.part(subset)
                if not part.fields:
                    check_templates(part, tuple(first[0].row))
                self.render(first[0], "base")
        self._check_golds()
        self._check_conversations()
        self._check_exemplar_files()

    def gold_notes(self) -> list[str]:
        """What a reader must know of the golds that are not refused: how many are absent or cannot be used."""
        notes = []
        for subset in self.scored:
            part, samples = self.part(subset), self.samples(subset)
            without = make_metric(part.metric).without_gold(samples)
            as_published = part.golds == "as_published"
            if without:
                some = f"{self.benchmark.name} [{subset}]: {without} of {len(samples)} rows have no gold"
                notes.append(
                    f"{some}; they count as in the published results"
                    if as_published
                    else f"{some}; they are asked and not scored"
                )
            if as_published and (fault := self._gold_fault(subset)):
                notes.append(f"{fault}; judged as in the published results")
        return notes

    def _check_golds(self) -> None:
        """DataError when no row has a gold, or when the metric cannot use one that is there.

        The data sets of some published results have golds that no metric should accept; their configs say
        `golds: as_published`.
        """
        for subset in self.scored:
            samples, part = self.samples(subset), self.part(subset)
            if samples and make_metric(part.metric).without_gold(samples) == len(samples):
                key = f"`gold: {part.gold}`" if part.gold else "the config has no `gold`"
                problem = f"{self._place_of(subset)}: no row has a gold answer"
                raise DataError(problem, f"columns: {', '.join(samples[0].row)}; {key}")
            if part.golds == "checked" and (fault := self._gold_fault(subset)):
                hint = "change `gold` in the config, leave the row out with `where`, or take another metric"
                raise DataError(fault, hint)

    def _gold_fault(self, subset: str) -> str:
        """The first gold that the metric cannot use, and how many there are; empty when it can use all."""
        part = self.part(subset)
        faults = make_metric(part.metric).gold_faults(part, self.samples(subset))
        if not faults:
            return ""
        (sample, reason), more = faults[0], f" ({len(faults)} such rows)" if len(faults) > 1 else ""
        return f"{self._place_of(subset, sample)}: the metric {part.metric.name} cannot use the gold: {reason}{more}"

    def _check_conversations(self) -> None:
        """DataError when a row has not what the solver needs."""
        for subset in self.subsets:
            call = self.part(subset).solver
            if call is None:
                continue
            solver = make_solver(call)
            for sample in self.samples(subset):
                if fault := solver.fault(sample):
                    place = self._place_of(subset, sample)
                    raise DataError(f"{place}: {fault}", f"columns: {', '.join(sample.row)}; change `solver`")

    def _place_of(self, subset: str, sample: Sample | None = None) -> str:
        """Benchmark, subset and file of its rows, and which row."""
        member, _, split = _find(self.benchmark, subset)
        row = f", row {sample.index}" if sample else ""
        return f"{self.benchmark.name} [{subset}], {self._place(member, split)}{row}"

    def _check_exemplar_files(self) -> None:
        if self.root.is_sample:
            return
        files = self._exemplar_files()
        for name, (declared, found) in files.items():
            if declared and found != declared:
                accepted = found if len(files) == 1 else "null"
                raise DataError(
                    f"{self.benchmark.name}: the exemplar file {name} is not the published one (sha256 {found[:12]}…)",
                    f"fetch it again, or accept it with --set {self.benchmark.name}:shots.sha256={accepted}",
                )

    def _filled(self, source: str, member: Member, split: str = "") -> str:
        scope = {**member.variables, "subset": member.name, "split": split}
        return template.render(source, scope, f"{self.benchmark.name}: data")

    def _read(self, spec: DataSpec, member: Member, split: str) -> list[Row]:
        config, file = self._filled(spec.config, member, split), self._filled(spec.file, member, split)
        source = sources.split_source(spec, config, split, file)
        if source not in self._rows:
            try:
                self._rows[source] = sources.load_rows(source, self.root)
            except DataError as error:
                raise type(error)(f"{self.benchmark.name} [{member.name}]: {error.message}", error.hint) from error
        return self._rows[source]

    def _place(self, member: Member, split: str) -> str:
        """The files of a subset's rows, or the split of the hub, for errors."""
        spec = self.benchmark.part(member.variables).data
        if spec.is_made and spec.build is not None:
            return f"rows made by {spec.build.name}"
        config, file = self._filled(spec.config, member, split), self._filled(spec.file, member, split)
        source = sources.split_source(spec, config, split, file)
        return ", ".join(map(str, sources.rows_files(source, self.root))) or str(source)

    def _member_rows(self, member: Member, split: str) -> Sequence[Row]:
        spec = self.benchmark.part(member.variables).data
        read = [] if spec.is_made else sources.cut(self._read(spec, member, split), spec.slice)
        if spec.build is None:
            return read
        material = builders.Material(
            rows=read,
            variables={**member.variables, "subset": member.name},
            tokenizer=self._get_tokenizer,
            cache=self._build_cache,
            find=self._side_file,
            beside=lambda name: sources.find_beside(*(spec.path, name) if spec.path else _placed(name), self.root),
            remark=self.remarks.__setitem__,
        )
        build = builders.BUILDERS.get(spec.build.name)
        return build(material, **bound_arguments(spec.build, build, ("material",), "the row builder"))

    def _side_file(self, name: str) -> Path:
        hint = "put the file there, or give its path: --set NAME:data.build.annotated.file=FILE"
        return sources.find_file(name, self.root, f"{self.benchmark.name}: the file", hint)

    def _get_tokenizer(self) -> builders.TextTokenizer:
        if self._tokenizer is None:
            raise DataError(
                f"{self.benchmark.name} counts lengths in tokens and no model is loaded",
                "name a tokenizer: --tokenizer DIR_OR_FILE",
            )
        tokenizer = self._tokenizer()
        counted = f"{tokenizer.name} ({tokenizer.fingerprint[:12]})"
        self.remarks["tokenizer"] = f"lengths are counted with the tokenizer {counted}"
        return tokenizer

    def _load_exemplars(self, member: Member) -> Exemplars:
        spec, what = self.benchmark.shots, f"{self.benchmark.name} exemplars"
        if spec is None:
            return Exemplars()
        if spec.split:
            return fewshot.from_rows(self.benchmark, member, spec, self._read(self.benchmark.data, member, spec.split))
        file = sources.read_exemplar_file(self._filled(spec.file or spec.turns or spec.text, member), self.root)
        if spec.text:
            return fewshot.from_text(spec, file.read_text(encoding="utf-8"))
        entries = read_file(file)
        return (
            fewshot.from_turns(spec, entries, what)
            if spec.turns
            else fewshot.from_rows(self.benchmark, member, spec, entries)
        )


def _placed(name: str) -> tuple[str, str]:
    """(data set, file) of `<org>/<name>/<file>`."""
    parts = name.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:])


def requests_of(task: Task, sample: Sample, model: ModelSpec, fingerprint: str, seed: int = 0) -> Iterator[Request]:
    """The requests of one sample, in label order; the key decides what a resumed run skips."""
    # Recorded outputs are matched by sample; no prompt is sent anywhere.
    rendered = Rendered(text=sample.id) if entry_of(model).recorded else task.render(sample, model.kind)
    if rendered.ppl is not None:
        tokens = task.part(sample.subset).token_statistics
        for label, text in rendered.ppl.items():
            request = Request("", sample.id, "ppl", text=text, label=label, token_statistics=tokens)
            yield _keyed(request, fingerprint)
    elif rendered.ll is not None:
        for label, (context, continuation) in rendered.ll.items():
            request = Request("", sample.id, "ll", text=context, label=label, continuation=continuation)
            yield _keyed(request, fingerprint)
    else:
        benchmark = task.part(sample.subset)
        for repeat in range(benchmark.gen.num_samples):
            gen = gen_settings(benchmark, model, seed + repeat)
            request = Request("", sample.id, "gen", rendered.text or "", rendered.turns or (), gen=gen, repeat=repeat)
            yield _keyed(request, fingerprint, [benchmark.solver, sample.row] if benchmark.solver else [])


def gen_settings(benchmark: Benchmark, model: ModelSpec, seed: int) -> GenSettings:
    """The benchmark's generation settings, completed by the model's; greedy runs have no seed.

    A reasoning model gets room for its thinking and no stop strings: they would end it inside the
    thinking, so they act when the answer is read (`score.py`).
    """
    spec, thinking = benchmark.gen, model.reasoning
    return GenSettings(
        max_out_len=(spec.max_out_len or model.max_new_tokens) + (thinking.budget if thinking else 0),
        stop=() if thinking else spec.stop,
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
        seed=seed if spec.temperature > 0 else 0,
    )


ASKED = tuple(f.name for f in fields(Request) if f.name not in ("key", "token_statistics", "top_logprobs"))
"""Fields of a request that enter its key; benchmarks never ask for alternatives."""


def _keyed(request: Request, fingerprint: str, more: Sequence[Any] = ()) -> Request:
    """The request with its key: a digest of the model and of everything the model is asked.

    `more`: what decides the further turns of a conversation. The sample's id is part of it: two rows
    with one text get two replies, so that counts and sampled draws stay those of the rows.
    """
    content = [fingerprint, *(getattr(request, name) for name in ASKED), *more]
    content += ["token_statistics"] if request.token_statistics else []
    return replace(request, key=digest(content))
