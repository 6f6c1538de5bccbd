"""From replies to verdicts to scores: extraction, metric, averages. No model, no device."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evalkit.core.errors import EvalkitError
from evalkit.core.reasoning import FINISHED, NONE, UNFINISHED, Reasoning, SplitOutput, split_reasoning, undeclared
from evalkit.core.records import Benchmark, Counts, Issue, Reply, Sample, Verdict
from evalkit.prompts.rendering import continuation_of
from evalkit.results.index import IndexedSample
from evalkit.sandbox import SandboxError, choose, run_programs
from evalkit.sandbox.records import FAILURE, FAILURES, Program, ProgramOutcome
from evalkit.scoring.context import Extraction, context_of
from evalkit.scoring.errors import standard_errors
from evalkit.scoring.judges.base import Jury
from evalkit.scoring.metrics import Case, Judged, Metric, Tools, Values, make_metric
from evalkit.scoring.metrics.base import UNREAD, gold_fault
from evalkit.scoring.metrics.golds import has_gold

MIN_SAMPLES_FOR_CONSTANT_CHECK = 8
"""From this many samples on, equal scores for all labels of all of them mean a broken engine."""
THINKING = "thinking"
"""Detail of a verdict: whether the reply has a reasoning trace."""
TRANSCRIPT = "transcript"
"""Detail of a verdict: the turns of a conversation."""
FAULT = "fault"
"""Detail of a verdict: why an answer cannot be judged."""
NEEDS_CODE = "not run: scoring executes generated programs, give --allow-code"

UNSAFE = (
    "UNSAFE: generated programs run WITHOUT A SANDBOX, with this user's rights, because none works here and "
    "--unsafe-code was given"
)


@dataclass(frozen=True)
class Options:
    """What scoring may do."""

    allow_code: bool = False
    workers: int = 0
    """Programs run at once; 0: one a core."""
    unsafe_code: bool = False
    """Execute programs even where no sandbox works."""
    jury: Jury | None = field(default=None, compare=False)
    """The models that judge the subset at hand."""

    def tools(self) -> Tools:
        """What metrics get to work with."""
        return Tools(self._run if self.allow_code else None, self.jury)

    def _run(self, programs: Sequence[Program]) -> list[ProgramOutcome]:
        return run_programs(programs, self.workers or os.cpu_count() or 1, choose(self.unsafe_code))

    def obstacle(self) -> Issue | None:
        """Why no program may be executed; None when it may."""
        if not self.allow_code:
            return Issue("code_not_allowed", NEEDS_CODE)
        try:
            choose(self.unsafe_code)
        except SandboxError as error:
            return Issue("no_sandbox", f"not run: {error.clause}")
        return None

    def unconfined(self) -> bool:
        """Whether programs are executed without a sandbox, because none works here and this was accepted."""
        return self.allow_code and self.obstacle() is None and not choose(self.unsafe_code).confined


@dataclass(frozen=True)
class SubsetResult:
    """One subset's verdicts and numbers (percent)."""

    subset: str
    verdicts: tuple[Verdict, ...]
    results: Mapping[str, float]
    n: int
    n_expected: int
    stderr: float | None
    truncated: int
    counts: Counts = field(default_factory=Counts)
    problem: Issue | None = None
    """Why there is no number, or why it must not be trusted."""
    lacking: tuple[str, ...] = ()
    """Results that were asked for and need more answered draws of some sample."""
    stderrs: Mapping[str, float] = field(default_factory=dict)
    """Standard errors (percent) of the results besides the primary one."""
    n_samples: int = 0
    """Samples with an answered draw."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """Results that are over a part of the samples -> how many."""
    faults: int = 0
    """Answers that cannot be judged, because of the row or of the metric; they count as missing."""
    first_fault: str = ""
    """Which sample cannot be judged, and why."""
    unread: int = 0
    """Answers that were judged in a form which could not be read; they are in no result."""
    without_gold: int = 0
    """Samples that have no gold: they are left out, of the expected ones too."""
    undeclared: int = 0
    """Replies with a reasoning trace, of a model that declares none."""
    own_exemplars: int = 0
    """Samples that stand among their own exemplars."""
    damaged: int = 0
    """Lines of the store that do not match their checksums, or hold no reply; 0 where every sample is answered."""
    data_changed: bool = False
    """Whether the samples were read from data that is not what the model was asked."""


def score_subset(
    benchmark: Benchmark,
    subset: str,
    samples: Sequence[IndexedSample],
    replies: Mapping[str, Reply],
    options: Options,
    reasoning: Reasoning | None = None,
    noise: float | None = None,
) -> SubsetResult:
    """Judge every sample of a subset by the replies in the store.

    `benchmark` has as many draws as the samples were asked for. `reasoning` says how the model marks its
    reasoning; without it the usual marks are looked for. `noise` is the uncertainty of a text's total
    log-probability in nats, where the engine measured one (half precision): verdicts then keep their margins,
    and those below it are counted.
    """
    metric = make_metric(benchmark.metric)
    checked = benchmark.golds == "checked"
    scored = [s for s in samples if has_gold(s.sample.gold)] if metric.uses_gold and checked else samples
    marks = reasoning or (undeclared(r.text or "" for r in replies.values()) if benchmark.mode == "gen" else None)
    extraction = Extraction(benchmark)
    reader = _Reader(benchmark, extraction, replies, marks, metric.uses_lengths and benchmark.mode == "ll")
    cases, verdicts = [], []
    for indexed in scored:
        fault = gold_fault(metric, benchmark, indexed.sample, extraction) if checked else ""
        for draw in _draws(indexed, benchmark):
            verdict, case = reader.read(indexed.sample, draw, fault)
            verdicts.append(verdict)
            cases += [case] if case else []
    broken = _constant(verdicts) if benchmark.mode != "gen" else None
    problem = broken or (options.obstacle() if metric.runs_code else None)
    judged: list[Judged] = []
    results: dict[str, float] = {}
    outcomes: list[Values | str] = []
    if cases and not problem:
        outcomes = _judged_apart(metric, cases, options)
        judged = [Judged(c.sample_id, v) for c, v in zip(cases, outcomes, strict=True) if not isinstance(v, str)]
        results, trouble = _combined(metric, judged)
        problem = Issue("unjudged", trouble) if trouble else None
    errors = standard_errors(metric, judged, results)
    marked = iter(outcomes)
    verdicts = [v if v.missing or not outcomes else _with_outcome(v, next(marked)) for v in verdicts]
    faults = [v.detail[FAULT] for v in verdicts if FAULT in v.detail]
    margins = [_margin(v) for v in verdicts if noise is not None and len(v.detail.get("nll", ())) > 1]
    final = tuple(_ranked(v, noise is not None) for v in verdicts)
    return SubsetResult(
        subset,
        final,
        results,
        n=sum(not v.missing for v in verdicts),
        n_expected=len(verdicts),
        stderr=errors.pop(metric.name, None),
        truncated=sum(v.truncated for v in verdicts),
        counts=Counts(
            fragile=sum(margin < (noise or 0.0) for margin in margins),
            reasoning=sum(v.detail.get(THINKING, NONE) != NONE for v in verdicts),
            unfinished=sum(v.detail.get(THINKING) == UNFINISHED for v in verdicts),
            programs=_failures(judged),
        ),
        problem=problem,
        parts=metric.counts(judged),
        lacking=_lacking(metric, benchmark.gen.num_samples, results) if judged and not problem else (),
        stderrs=errors,
        n_samples=len({v.sample_id for v in verdicts if not v.missing}),
        faults=len(faults),
        first_fault=faults[0] if faults else "",
        unread=sum(bool(j.values.get(UNREAD)) for j in judged),
        without_gold=len(samples) - len(scored),
        undeclared=0 if reasoning else sum(v.detail.get(THINKING, NONE) != NONE for v in verdicts),
    )


def _margin(verdict: Verdict) -> float:
    return margin_of(verdict.detail["nll"], verdict.detail["tokens"])


def margin_of(scores: Mapping[str, float], tokens: Mapping[str, int]) -> float:
    """How much likelier the chosen label is than the second, in nats of whole texts; both by label.

    Means (ppl) are multiplied by the tokens they are taken over: the noise of a total does not grow with them.
    """
    best, second = sorted(scores, key=lambda label: scores[label])[:2]
    return float((scores[second] - scores[best]) * tokens[best])


def _ranked(verdict: Verdict, with_margin: bool) -> Verdict:
    """The verdict with its labels in order of their scores in place of the scores themselves.

    The last digits of a log-probability depend on how requests were batched; the replies keep them.
    Verdict files are to be the same however often a run was broken off.
    """
    scores = verdict.detail.get("nll")
    if scores is None:
        return verdict
    if len(scores) == 1:
        return replace(verdict, detail={})
    detail: dict[str, Any] = {"ranking": sorted(scores, key=lambda label: scores[label])}
    return replace(verdict, detail={**detail, "margin": round(_margin(verdict), 4)} if with_margin else detail)


def judge(metric: Metric, cases: Sequence[Case], options: Options) -> tuple[list[Judged], dict[str, float]]:
    """Per-sample values and the results over all of them."""
    values = metric.judge(cases, options.tools())
    judged = [Judged(case.sample_id, v) for case, v in zip(cases, values, strict=True)]
    return judged, metric.combine(judged)


def _judged_apart(metric: Metric, cases: Sequence[Case], options: Options) -> list[Values | str]:
    """The values of each case, or why it cannot be judged; one that fails leaves the others as they are."""
    try:
        return list(metric.judge(cases, options.tools()))
    except Exception:  # one by one, to find which case it was
        values: list[Values | str] = []
        for case in cases:
            try:
                values += metric.judge([case], options.tools())
            except Exception as error:
                values.append(reason_of(error))
        return values


def _combined(metric: Metric, judged: Sequence[Judged]) -> tuple[dict[str, float], str]:
    """(the results, why there are none)."""
    try:
        return metric.combine(judged) if judged else {}, ""
    except Exception as error:  # a metric of a library may raise anything; the other benchmarks are scored
        return {}, reason_of(error)


def _with_outcome(verdict: Verdict, outcome: Values | str) -> Verdict:
    if isinstance(outcome, str):
        return _faulty(verdict, outcome)
    v = verdict  # by hand: `replace` takes three times as long, of a million verdicts
    return Verdict(v.sample_id, v.subset, v.answer, v.gold, outcome, v.missing, v.truncated, v.detail)


def _faulty(verdict: Verdict, reason: str) -> Verdict:
    """The verdict on an answer that cannot be judged."""
    return replace(verdict, values={}, missing=True, detail={**verdict.detail, FAULT: f"{verdict.sample_id}: {reason}"})


def reason_of(error: Exception) -> str:
    """A failure as one clause."""
    if isinstance(error, EvalkitError):
        return error.clause
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Draw:
    """The requests whose replies give one answer: all labels of a sample, or one generation."""

    repeat: int
    keys: Mapping[str, str]
    """Label -> key; for a generation its number -> key; empty where nobody asked."""


def _draws(indexed: IndexedSample, benchmark: Benchmark) -> list[_Draw]:
    """ppl and ll: one draw with all labels; gen: as many as the benchmark takes."""
    if benchmark.mode != "gen":
        return [_Draw(0, indexed.keys)]
    names = [str(repeat) for repeat in range(benchmark.gen.num_samples)]
    return [_Draw(int(name), {name: indexed.keys[name]} if name in indexed.keys else {}) for name in names]


@dataclass(frozen=True)
class _Reader:
    """Reads the replies of one subset."""

    benchmark: Benchmark
    extraction: Extraction
    replies: Mapping[str, Reply]
    reasoning: Reasoning | None
    uses_lengths: bool
    """Whether the metric looks at the lengths of continuations."""

    def read(self, sample: Sample, draw: _Draw, fault: str) -> tuple[Verdict, Case | None]:
        """(the verdict without the metric's values, the case for the metric where there is an answer to judge)."""
        benchmark = self.benchmark
        found = {name: self.replies[key] for name, key in draw.keys.items() if key in self.replies}
        errors = {name: error for name, reply in found.items() if (error := _error_of(reply, benchmark))}
        if errors or not draw.keys or len(found) < len(draw.keys):
            detail: dict[str, Any] = {"error": "; ".join(sorted(set(errors.values())))} if errors else {}
            return Verdict(sample.id, sample.subset, None, sample.gold, {}, missing=True, detail=detail), None
        context = context_of(benchmark, sample)
        scores: dict[str, float] = {}
        answer: Any = None
        if benchmark.mode == "gen":
            (reply,) = found.values()
            text, detail = self._text_of(reply)
            try:
                answer = self.extraction(text, sample, context)
            except Exception as error:  # a step may fail on one reply, or on what it needs of one row
                fault = fault or f"no answer can be extracted: {reason_of(error)}"
        else:
            scores = {label: reply.nll or 0.0 for label, reply in found.items()}
            answer = min(scores, key=lambda label: scores[label])  # the first label wins a tie
            detail = {"nll": scores, "tokens": tokens_of(benchmark, found)}
        truncated = any(reply.truncated for reply in found.values())
        verdict = Verdict(sample.id, sample.subset, answer, sample.gold, {}, truncated=truncated, detail=detail)
        if fault:
            return _faulty(verdict, fault), None
        lengths = found if self.uses_lengths else {}
        return verdict, Case(
            sample.id, draw.repeat, answer, sample.gold, sample.row, context, scores,
            continuations={label: continuation_of(benchmark, sample, label) for label in lengths},
            tokens={label: r.n_scored for label, r in lengths.items()},
            reply=next(iter(found.values())) if len(scores) == 1 else None,
            transcript=detail.get(TRANSCRIPT, ()),
        )  # fmt: skip

    def _text_of(self, reply: Reply) -> tuple[str, dict[str, Any]]:
        """(what answers are extracted from, the verdict's details)."""
        text = reply.text or ""
        detail: dict[str, Any] = {"text": text, "finish": reply.finish}
        # in a conversation every turn was split before the next one was asked
        whole = SplitOutput(text, NONE)
        parts = whole if reply.transcript else split_reasoning(text, self.reasoning, self.benchmark.gen.stop)
        if self.reasoning or parts.thinking != NONE:
            detail[THINKING] = parts.thinking
        if reply.transcript:
            traces = [turn[THINKING] for turn in reply.transcript if THINKING in turn]
            detail[TRANSCRIPT] = list(reply.transcript)
            detail |= {THINKING: min(traces, key=(UNFINISHED, FINISHED, NONE).index)} if traces else {}
        return parts.answer, detail


def tokens_of(benchmark: Benchmark, replies: Mapping[str, Reply]) -> dict[str, int]:
    """Label -> the tokens that its score is a mean over; 1 for totals (ll)."""
    return {label: 1 if benchmark.mode == "ll" else reply.n_tokens for label, reply in replies.items()}


def _error_of(reply: Reply, benchmark: Benchmark) -> str:
    """Why a reply is no answer; an engine that gives no log-probability must not score chance."""
    if not reply.error and benchmark.mode != "gen" and reply.nll is None:
        return "the engine returned no log-probability"
    return reply.error


def _constant(verdicts: Sequence[Verdict]) -> Issue | None:
    """A sign that the engine gave no real log-probabilities: all labels of all samples score alike."""
    seen = [v.detail["nll"] for v in verdicts if not v.missing and len(v.detail["nll"]) > 1]
    if len(seen) >= MIN_SAMPLES_FOR_CONSTANT_CHECK and all(len(set(scores.values())) == 1 for scores in seen):
        text = "the engine returned the same log-probability for every label of every sample: no score is given"
        return Issue("constant_scores", text)
    return None


def _failures(judged: Sequence[Judged]) -> dict[str, int]:
    """How generated programs ended, in the order of the classes."""
    counts = Counter(str(j.values[FAILURE]) for j in judged if FAILURE in j.values)
    return {name: counts[name] for name in FAILURES if counts[name]}


def _lacking(metric: Metric, draws: int, results: Mapping[str, float]) -> tuple[str, ...]:
    """Results that `draws` draws of every sample would have given."""
    return tuple(name for name, needed in metric.draws.items() if needed <= draws and name not in results)
