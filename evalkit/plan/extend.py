"""A command that extends an earlier run: what the run holds stays in its plan, what the command names comes on top."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from evalkit.configs.benchmark import from_resolved, select
from evalkit.core.digest import plain
from evalkit.core.errors import ConfigError
from evalkit.plan.plan import Pair, Planned, RunPlan
from evalkit.plan.selection import Selection

T = TypeVar("T")
SETTINGS = ("kind", "max_new_tokens", "reasoning")
"""Fields of a model that are no part of its fingerprint, and act on what is asked or on how replies are read."""
HINT = "give the same options as the run had, or start another run with --new"


def with_earlier_subsets(selection: Selection, earlier: RunPlan) -> Selection:
    """The selection with the subsets that the earlier run has of the same configs: one run has one choice of them."""
    for name, benchmark in selection.benchmarks.items():
        before = earlier.benchmarks.get(name)
        if before is None or plain(before.resolved) != plain(benchmark.resolved):
            continue
        both = selection.subsets[name], earlier.selected[name]
        subsets = tuple(dict.fromkeys(s for part in both for s in part)) if all(both) else ()
        whole = from_resolved(name, plain(benchmark.resolved), benchmark.source, benchmark.hash)
        chosen = select(whole, subsets) if subsets else whole
        selection = replace(
            selection,
            benchmarks={**selection.benchmarks, name: chosen},
            subsets={**selection.subsets, name: tuple(m.name for m in chosen.members) if subsets else ()},
        )
    return selection


def extended(planned: Planned, earlier: RunPlan) -> Planned:
    """The command's plan on top of the earlier one; ConfigError where the two do not go together in one table.

    Pairs of the earlier run that the command does not name are scored from what the run holds, and not asked again.
    """
    plan = planned.plan
    kept = frozenset(earlier.pairs) - frozenset(plan.pairs)
    again = sorted({pair.benchmark for pair in plan.pairs if _other_data(plan, earlier, pair, pair)})
    note = "the data changed since the run: its rows are asked and scored as they are now"
    planned = replace(planned, warnings=(*planned.warnings, *(f"{name}: {note}" for name in again)))
    if not kept:
        return planned
    _check(planned, earlier, kept)
    models, benchmarks = {p.model for p in kept}, {p.benchmark for p in kept}
    unusable = {m: earlier.fingerprints[m] for m in planned.broken if m in models}
    merged = replace(
        plan,
        models=_merged(earlier.models, plan.models, models),
        fingerprints={**_merged(earlier.fingerprints, plan.fingerprints, models), **unusable},
        identities=_merged(earlier.identities, plan.identities, models),
        benchmarks=_merged(earlier.benchmarks, plan.benchmarks, benchmarks),
        selected=_merged(earlier.selected, plan.selected, benchmarks),
        pairs=tuple(dict.fromkeys((*earlier.pairs, *plan.pairs))),
        facts=_merged(earlier.facts, plan.facts, kept),
    )
    return replace(planned, plan=merged, kept=kept)


def _merged(before: Mapping[Any, T], now: Mapping[Any, T], kept: Collection[Any]) -> dict[Any, T]:
    """What is kept of the earlier run, then what the command adds; where both have a value, the command's."""
    return {**{key: value for key, value in before.items() if key in kept or key in now}, **now}


def _check(planned: Planned, earlier: RunPlan, kept: Collection[Pair]) -> None:
    """All reasons why the numbers of both would not belong in one table."""
    problems = list(_different_options(planned.plan, earlier))
    problems += _different_models(planned, earlier, {pair.model for pair in kept})
    for name in sorted({pair.benchmark for pair in kept} & set(planned.plan.benchmarks)):
        if planned.plan.benchmarks[name].hash != earlier.benchmarks[name].hash:
            models = sorted(pair.model for pair in kept if pair.benchmark == name)
            problems.append(f"{name} is another config now than the one that {', '.join(models)} was asked with")
    for pair in sorted(kept, key=str):
        if any(_other_data(planned.plan, earlier, now, pair) for now in planned.plan.pairs):
            problems.append(f"the data of {pair.benchmark} changed since {pair.model} was asked")
    if problems:
        raise ConfigError(f"the run cannot be extended: {'; '.join(problems)}", HINT)


def _other_data(plan: RunPlan, earlier: RunPlan, now: Pair, before: Pair) -> bool:
    """Whether a benchmark has other rows now than an earlier pair was asked.

    Those that are made for a tokenizer differ by model, and another choice of subsets tells nothing.
    """
    if now.benchmark != before.benchmark or plan.selected[now.benchmark] != earlier.selected.get(before.benchmark):
        return False
    if now.model != before.model and any(variant.data.build for variant in plan.benchmarks[now.benchmark].variants):
        return False
    digests = plan.facts_of(now).data_fingerprint, earlier.facts_of(before).data_fingerprint
    return all(digests) and digests[0] != digests[1] and plan.cut == earlier.cut


def _different_options(plan: RunPlan, earlier: RunPlan) -> Iterator[str]:
    pairs = {
        "--limit": (earlier.cut.limit, plan.cut.limit),
        "--sample": (earlier.cut.sample, plan.cut.sample),
        "--seed": (earlier.seed, plan.seed),
        "--data-root": (earlier.data_root, plan.data_root),
        "--tokenizer": (earlier.tokenizer, plan.tokenizer),
    }
    for option, (before, now) in pairs.items():
        if before != now:
            yield f"it was made with {_given(option, before)}, this command has {_given(option, now)}"


def _given(option: str, value: object) -> str:
    return f"no {option}" if value is None else f"{option} {value}"


def _different_models(planned: Planned, earlier: RunPlan, names: Collection[str]) -> Iterator[str]:
    plan = planned.plan
    for name in sorted(set(names) & set(plan.models) - set(planned.broken)):
        if plan.fingerprints[name] != earlier.fingerprints[name]:
            before, now = earlier.identities.get(name, {}), plan.identities.get(name, {})
            keys = sorted(k for k in {*before, *now} if plain(before.get(k)) != plain(now.get(k)))
            yield f"{name} is another model now ({', '.join(keys) or 'its fingerprint'} changed)"
        fields = [f for f in SETTINGS if getattr(plan.models[name], f) != getattr(earlier.models[name], f)]
        if fields:
            yield f"{name} has another {' and '.join(fields)} now"
