"""What the reader of a table must know besides its numbers: the foot of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core.calls import make_solver
from evalkit.core.records import MIXED, Score
from evalkit.engines.catalog import entry_of
from evalkit.execution.runner import JobFailure
from evalkit.plan.plan import RunPlan
from evalkit.scoring.metrics import make_metric
from evalkit.scoring.score import UNSAFE


def notes_of(plan: RunPlan, failures: Sequence[JobFailure], engines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the reader of the table must know; `engines` is what each model's engine said of itself."""
    notes = [
        f"{model}: transformers tokenises some texts otherwise than the checkpoint's tokenizer.json says"
        for model, facts in engines.items()
        if facts.get("tokenizer_matches_file") is False
    ]
    if plan.cut.limit is not None:
        notes.append(f"limited: the first {plan.cut.limit} rows of every subset; not comparable with published scores")
    if plan.cut.sample is not None:
        notes.append(f"limited: {plan.cut.sample} random rows of every subset (seed {plan.cut.seed}); not comparable")
    if any(plan.uses_sample_data(b) for b in plan.benchmarks.values()):
        notes.append("sample data: the project's own made-up rows, not the benchmarks'; scores mean nothing elsewhere")
    recorded = [m for m in plan.models.values() if entry_of(m).recorded]
    notes += [f"{m.name}: outputs made elsewhere, read from {m.path}" for m in recorded]
    notes += [f"judge {name}: {spec.engine} {spec.path}" for name, spec in plan.judges.items()]
    notes += [f"{b.name}: {b.notes}" for b in plan.benchmarks.values() if b.notes]
    notes += remarks_of(plan)
    said: dict[str, list[JobFailure]] = {}
    for failure in failures:
        said.setdefault(f"{failure.job.model}: {failure.cause}", []).append(failure)
    for what, group in said.items():
        hint = f" ({group[0].hint})" if group[0].hint else ""
        log = f"; log: {group[0].log}" if group[0].log else ""
        notes.append(f"failed: {len(group)} job{'s' if len(group) > 1 else ''} of {what}{hint}{log}")
    return notes


def remarks_of(plan: RunPlan) -> list[str]:
    """What builders say of the rows that they made, equal remarks of several models once."""
    by_text: dict[tuple[str, str], list[str]] = {}
    for pair in plan.pairs:
        for text in plan.facts_of(pair).remarks:
            by_text.setdefault((pair.benchmark, text), []).append(pair.model)
    several = len(plan.models) > 1
    return [
        f"{benchmark} ({', '.join(models)}): {text}" if several else f"{benchmark}: {text}"
        for (benchmark, text), models in by_text.items()
    ]


def score_notes(plan: RunPlan, scores: Sequence[Score], engines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was counted beside the scores."""
    return [*fragile_notes(scores, engines), *reasoning_notes(plan, scores), *failure_notes(scores)]


def unsafe_notes(plan: RunPlan, unconfined: bool) -> list[str]:
    """The mark of a run that executes programs without a sandbox."""
    variants = [variant for benchmark in plan.benchmarks.values() for variant in benchmark.variants]
    runs_code = any(make_metric(variant.metric).runs_code for variant in variants)
    runs_code |= any(make_solver(variant.solver).runs_code for variant in variants if variant.solver)
    return [UNSAFE] if runs_code and unconfined else []


def failure_notes(scores: Sequence[Score]) -> list[str]:
    """How the generated programs of each benchmark ended."""
    notes = []
    for s in scores:
        if s.level == "headline" and s.counts.programs:
            ends = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in s.counts.programs.items())
            notes.append(f"{s.model} {s.row}: of {sum(s.counts.programs.values())} programs {ends}")
    return notes


def fragile_notes(scores: Sequence[Score], engines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How many answers of each benchmark numeric noise could turn."""
    return [
        f"{s.model} {s.benchmark}: {s.counts.fragile} of {s.n} answers have a margin below the numeric noise of "
        f"{engines[s.model]['dtype']} ({engines[s.model]['score_noise']:.2g} nats, measured at load)"
        for s in scores
        if s.level == "headline" and s.counts.fragile
    ]


def reasoning_notes(plan: RunPlan, scores: Sequence[Score]) -> list[str]:
    """How many replies of each reasoning model have a reasoning trace, by benchmark."""
    notes = []
    for model in (m for m in plan.models.values() if m.reasoning is not None):
        of_model = [s for s in scores if s.model == model.name and s.n]
        mixed = {s.benchmark for s in of_model if s.level == "headline" and s.mode == MIXED}
        heads = [
            s for s in of_model if s.mode == "gen" and s.level == ("subset" if s.benchmark in mixed else "headline")
        ]
        shares = [f"{s.row} {s.counts.reasoning / s.n:.1%} of {s.n}" for s in heads]
        if shares:
            notes.append(
                f"{model.name}: reasoning is removed before extraction; replies with reasoning: {', '.join(shares)}"
            )
    return notes
