"""The samples of a finished run as people look at them: prompt, output, extraction, options, verdict.

A run's folder is all that is read: no data, no model, no tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.errors import EvalkitError
from evalkit.core.jsontext import json_text
from evalkit.core.reasoning import NONE, UNFINISHED, Reasoning, split_reasoning
from evalkit.core.records import Benchmark, Kind, Reply, Sample, Verdict
from evalkit.core.sequences import shared_length
from evalkit.engines.catalog import entry_of
from evalkit.plan.plan import Pair, RunPlan
from evalkit.plan.task import part_of, subsets_of
from evalkit.prompts.rendering import Exemplars, render
from evalkit.results.index import keys_by_sample, read_exemplars, read_samples, request_version
from evalkit.results.store import RunStore
from evalkit.scoring.context import context_of, fill_calls
from evalkit.scoring.extract.trace import Span, Trace, trace
from evalkit.scoring.metrics.base import VALUE
from evalkit.scoring.score import FAULT, margin_of, tokens_of

NOT_KEPT = "The prompt cannot be shown: the run keeps no samples of this subset (run.py score RUN writes them)."
FOLD_FROM = 80
"""Characters from which on exemplars are a part of their own."""
ERROR = "error"


@dataclass(frozen=True)
class Part:
    """A piece of a prompt."""

    role: str
    """`system`, `user`, `assistant`; empty in plain text."""
    text: str
    is_exemplar: bool = False


@dataclass(frozen=True)
class Option:
    """What is scored for one label, behind the parts that all labels share."""

    label: str
    given: str
    scored: str


@dataclass(frozen=True)
class Prompt:
    """The prompt of one sample, as the model got it before its chat template."""

    parts: tuple[Part, ...] = ()
    options: tuple[Option, ...] = ()
    """ppl and ll: one a label."""
    fault: str = ""
    """Why it cannot be shown."""


@dataclass(frozen=True)
class Judged:
    """One draw of one sample, with everything that is known of it."""

    benchmark: Benchmark
    """As it is for the sample's subset."""
    sample: Sample | None
    """None where the run keeps no samples."""
    draw: int
    prompt: Prompt
    verdict: Verdict
    replies: Mapping[str, Reply]
    """By label, or by the number of the draw; empty where nobody was asked."""
    trace: Trace | None
    """gen: how the answer was extracted."""
    thinking: Span | None = None
    """Where the reasoning trace is in the output."""
    unfinished: bool = False
    """The output ended inside its reasoning trace."""

    @property
    def text(self) -> str:
        """gen: the raw output."""
        return str(self.verdict.detail.get("text", ""))

    @property
    def value(self) -> float | None:
        """The primary value, 0 to 1; None where the sample has none by itself."""
        value = self.verdict.values.get(VALUE)
        return float(value) if isinstance(value, (bool, int, float)) and not self.verdict.missing else None

    @property
    def fault(self) -> str:
        """Why there is no verdict; empty where there is one."""
        return str(self.verdict.detail.get(FAULT) or self.verdict.detail.get(ERROR) or "")

    @property
    def unparsed(self) -> bool:
        """Whether an output was judged from which nothing was extracted."""
        answer = self.verdict.answer
        return self.trace is not None and not self.verdict.missing and answer in (None, "", [], "NULL")

    @property
    def margin(self) -> float | None:
        """How much likelier the chosen label is than the second, in nats of whole texts; None without two labels."""
        scored = {label: r for label, r in self.replies.items() if r.nll is not None}
        if self.benchmark.mode == "gen" or len(scored) < 2:
            return None
        return margin_of({x: r.nll or 0.0 for x, r in scored.items()}, tokens_of(self.benchmark, scored))


def text_of(value: Any) -> str:
    """An answer, a gold or a step's result as text; nothing for null."""
    return "" if value is None else value if isinstance(value, str) else json_text(value)


def samples_of(store: RunStore, plan: RunPlan, pair: Pair) -> Iterator[Judged]:
    """The judged draws of a model on a benchmark, subset by subset, in sample order."""
    benchmark = plan.benchmarks[pair.benchmark].with_draws(plan.facts_of(pair).draws)
    version = request_version(plan, pair)
    for subset in subsets_of(benchmark):
        verdicts = store.verdicts(pair.model, pair.benchmark, subset)
        if verdicts:
            yield from _Subset(store, plan, pair, part_of(benchmark, subset), subset, version).judged(verdicts)


@dataclass(frozen=True)
class _Subset:
    """One subset of a pair, read into memory."""

    store: RunStore
    plan: RunPlan
    pair: Pair
    benchmark: Benchmark
    name: str
    version: str
    prompts: dict[str, Prompt] = field(default_factory=dict)
    """Sample id -> its prompt; draws share one."""

    def judged(self, verdicts: Sequence[Verdict]) -> Iterator[Judged]:
        """The verdicts with what they are about."""
        samples, exemplars = self._samples(), self._exemplars()
        keys = keys_by_sample(self.store.index_lines(self.pair.model, self.pair.benchmark, self.name), self.version)
        replies = self.store.replies(self.pair.model, self.pair.benchmark, self.name) if keys else {}
        draws: dict[str, int] = {}
        for verdict in verdicts:
            name = verdict.sample_id
            draw = draws[name] = draws.get(name, -1) + 1
            asked = keys.get(name, {})
            asked = {str(draw): asked[str(draw)]} if self.benchmark.mode == "gen" and str(draw) in asked else asked
            found = {label: replies[key] for label, key in asked.items() if key in replies}
            yield self._one(verdict, draw, samples.get(name), exemplars, found)

    def _one(
        self, verdict: Verdict, draw: int, sample: Sample | None, exemplars: Exemplars, found: Mapping[str, Reply]
    ) -> Judged:
        if verdict.sample_id not in self.prompts:
            kind = self.plan.models[self.pair.model].kind
            self.prompts.clear()  # draws of a sample follow one another
            self.prompts[verdict.sample_id] = prompt_of(self.benchmark, sample, exemplars, kind)
        prompt = self.prompts[verdict.sample_id]
        text = verdict.detail.get("text")
        if self.benchmark.mode != "gen" or sample is None or not isinstance(text, str):
            return Judged(self.benchmark, sample, draw, prompt, verdict, found, None)
        return self._generated(verdict, draw, sample, prompt, found, text)

    def _generated(
        self, verdict: Verdict, draw: int, sample: Sample, prompt: Prompt, found: Mapping[str, Reply], text: str
    ) -> Judged:
        reasoning = self.plan.models[self.pair.model].reasoning
        answer, thinking, unfinished = _without_thinking(text, reasoning, self.benchmark)
        steps = trace(answer, fill_calls(self.benchmark.extract, sample.variables), context_of(self.benchmark, sample))
        at = text.rfind(answer) if answer else -1
        span = (steps.span[0] + at, steps.span[1] + at) if steps.span and at >= 0 else None
        steps = Trace(steps.steps, span, steps.fault)
        return Judged(self.benchmark, sample, draw, prompt, verdict, found, steps, thinking, unfinished)

    def _samples(self) -> dict[str, Sample]:
        fingerprint = self.plan.facts_of(self.pair).data_fingerprint
        content = self.store.samples(self.pair.benchmark, fingerprint, self.name) if fingerprint else None
        if content is None:
            return {}
        return {s.id: s for s in read_samples(content, self.name, f"samples of {self.pair.benchmark} [{self.name}]")}

    def _exemplars(self) -> Exemplars:
        fingerprint = self.plan.facts_of(self.pair).data_fingerprint
        content = self.store.exemplars(self.pair.benchmark, fingerprint, self.name) if fingerprint else None
        if content is not None:
            return read_exemplars(content, f"exemplars of {self.pair.benchmark} [{self.name}]")
        missing = "⟨exemplars: this run does not keep them; `run.py show` prints them⟩\n"
        return Exemplars(missing) if self.benchmark.shots else Exemplars()


def _without_thinking(text: str, reasoning: Reasoning | None, benchmark: Benchmark) -> tuple[str, Span | None, bool]:
    """(what extraction reads, where the reasoning trace is, whether the output ends inside it)."""
    found = split_reasoning(text, reasoning, benchmark.gen.stop)
    if found.thinking == NONE:
        return found.answer, None, False
    start = text.find(found.trace)
    return found.answer, (start, start + len(found.trace)), found.thinking == UNFINISHED


def prompt_of(benchmark: Benchmark, sample: Sample | None, exemplars: Exemplars, kind: Kind) -> Prompt:
    """A sample's prompt in parts, its exemplars apart."""
    if sample is None:
        return Prompt(fault=NOT_KEPT)
    try:
        rendered = render(benchmark, sample, exemplars, kind)
    except EvalkitError as error:  # a row whose long columns are not kept
        return Prompt(fault=f"The prompt cannot be shown: {error.message}. `run.py show {benchmark.name}` prints it.")
    if rendered.turns is not None:
        shown = {turn.text.removesuffix("\n") for turn in exemplars.turns}
        turns = [Part(t.role, t.text, t.text.removesuffix("\n") in shown) for t in rendered.turns]
        apart = ([turn] if turn.is_exemplar else _apart(turn, exemplars) for turn in turns)
        return Prompt(tuple(part for parts in apart for part in parts))
    if rendered.text is not None:
        return Prompt(tuple(_apart(Part("", rendered.text), exemplars)))
    texts = rendered.ppl or {label: context for label, (context, _) in (rendered.ll or {}).items()}
    first, last = min(texts.values()), max(texts.values())
    same = first[: shared_length(first, last)] if len(texts) > 1 else ""
    ends = {label: text[len(same) :] for label, text in texts.items()}
    if rendered.ll is not None:
        options = tuple(Option(label, ends[label], scored) for label, (_, scored) in rendered.ll.items())
    else:
        options = tuple(Option(label, "", end) for label, end in ends.items())
    return Prompt(tuple(_apart(Part("", same), exemplars)), options)


def _apart(part: Part, exemplars: Exemplars) -> list[Part]:
    """A text with its exemplars as a part of their own."""
    shots = exemplars.text or "\n".join(turn.text for turn in exemplars.turns)
    before, found, after = part.text.partition(shots) if len(shots) >= FOLD_FROM else (part.text, "", "")
    pieces = [Part(part.role, before), Part(part.role, found, True), Part(part.role, after)]
    return [piece for piece in pieces if piece.text]


def is_asked(plan: RunPlan, model: str) -> bool:
    """Whether the model was asked the prompts that are shown; recorded outputs were made elsewhere."""
    return not entry_of(plan.models[model]).recorded
