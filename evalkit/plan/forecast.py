"""What a run will cost: samples, requests, tokens; after a calibration, seconds and memory too."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.calls import make_metric, make_solver
from evalkit.core.errors import DataError
from evalkit.core.records import MIXED, GenSpec, ModelSpec, Request, Sample
from evalkit.core.sequences import unique_length
from evalkit.engines.catalog import create_engine, entry_of
from evalkit.plan.jobs import text_of
from evalkit.plan.plan import Pair, Planned, RunPlan

COUNTED = 32
"""Samples of a subset whose tokens are counted; the others are taken to be like them."""
TRIED_SCORED, TRIED_WRITTEN = 8, 16
"""Samples of a calibration: enough for the shared part not to weigh, and for one set of slots."""
JUDGE = "judge"
"""Mode of a forecast of judgements."""
Encode = Callable[[str], Sequence[Any]]


@dataclass(frozen=True)
class Forecast:
    """The expected work of one model on one benchmark."""

    model: str
    dataset: str
    version: str
    mode: str
    subsets: int
    samples: int
    requests: int
    tokens: int | None
    """Prompt and scored tokens as sent, without special tokens; None where no tokenizer is at hand."""
    unique: int | None
    """The same with what prompts of a subset share counted once."""
    written: int
    """Most tokens that are generated."""
    seconds: float | None = None
    """Expected time of one worker, loading left out."""
    memory: int | None = None
    """Most bytes in use during the calibration, on the device or, without one, in the process."""
    price: float | None = None
    """Most money, in the unit of the model's prices; None where it has none."""


def forecast(planned: Planned) -> list[Forecast]:
    """The work of every planned pair, and of its judges, counted without a model."""
    plan = planned.plan
    return [part for pair in planned.runnable for part in (_count(plan, pair), *_judgements(plan, pair))]


def _judgements(plan: RunPlan, pair: Pair) -> Iterator[Forecast]:
    """What judges are asked about one pair's answers at most, in mode `judge`: answers of full length, read at once."""
    task, benchmark = plan.task(pair), plan.benchmarks[pair.benchmark]
    asked: dict[str, list[tuple[Any, list[Sample], GenSpec]]] = {}
    for subset in task.scored:
        part = task.part(subset)
        judging = make_metric(part.metric).judging
        for judge in (judging.judges or plan.panel) if judging else ():
            asked.setdefault(judge, []).append((judging, task.samples(subset), part.gen))
    for judge, parts in asked.items():
        spec = plan.judges[judge]
        try:
            encode: Encode | None = plan.load_tokenizer(spec).encode
        except DataError:
            encode = entry_of(spec).rough_tokens
        requests = written = 0
        tokens = 0.0
        for judging, samples, gen in parts:
            count = len(samples) * gen.num_samples * judging.orders
            requests, written = requests + count, written + count * judging.max_out_len
            chosen = _spread(samples)
            if encode is not None:
                sizes = [len(encode(judging.text(sample, ""))) for sample in chosen]
                limit = gen.max_out_len or plan.models[pair.model].max_new_tokens
                tokens += count * (sum(sizes) / len(sizes) + limit)
        known = None if encode is None else round(tokens)
        version, total = benchmark.hash[:6], sum(len(samples) for _, samples, _ in parts)
        yield Forecast(
            judge, benchmark.name, version, JUDGE, len(parts), total, requests, known, known, written,
            price=_price(spec, tokens, written),
        )  # fmt: skip


def calibrated(planned: Planned, found: Sequence[Forecast]) -> Iterator[Forecast]:
    """The same with times and memory: each model is loaded, and answers a few samples of each benchmark.

    ModelError when a model cannot be loaded.
    """
    pairs = {(pair.model, pair.benchmark): pair for pair in planned.runnable}
    yield from (f for f in found if f.mode == JUDGE)
    for name, spec in planned.plan.models.items():
        own = [f for f in found if f.model == name and f.mode != JUDGE]
        if entry_of(spec).recorded or not own:
            yield from own
            continue
        with closing(create_engine(spec)) as engine:
            for item in own:
                seconds = _expected(planned.plan, pairs[name, item.dataset], item, engine)
                yield replace(item, seconds=seconds, memory=engine.describe().get("peak_memory") or _resident_peak())


def _count(plan: RunPlan, pair: Pair) -> Forecast:
    task, encode = plan.task(pair), _encoder(plan, pair)
    requests = written = scored = 0
    tokens = unique = 0.0
    for subset in task.scored:
        samples = task.samples(subset)
        chosen = _spread(samples)
        asks = [list(plan.requests(pair, sample)) for sample in chosen]
        share = len(samples) / len(chosen)
        if call := task.part(subset).solver:  # as many turns as there may be, each after full outputs
            solver = make_solver(call)
            turns = [solver.most_requests(sample) for sample in chosen]
            asks = [list(_turns(ask, count)) for ask, count in zip(asks, turns, strict=True)]
        requests += round(share * sum(map(len, asks)))
        scored += round(share * sum(r.gen is None for ask in asks for r in ask))
        written += round(share * sum(r.gen.max_out_len for ask in asks for r in ask if r.gen))
        if encode is not None:
            ids = [[tuple(encode(text_of(r))) for r in ask] for ask in asks]
            tokens += share * sum(len(i) for ask in ids for i in ask)
            tokens += share * sum(n * r.gen.max_out_len for ask in asks for r in ask if r.gen and (n := _turn(r)))
            unique += _unique(ids, len(samples))
    b = plan.benchmarks[pair.benchmark]
    known = encode is not None
    spec = plan.models[pair.model]
    written += scored * entry_of(spec).tokens_written_per_score
    return Forecast(
        pair.model,
        b.name,
        b.hash[:6],
        next(iter(b.modes)) if len(b.modes) == 1 else MIXED,
        len(task.scored),
        sum(len(task.samples(s)) for s in task.scored),
        requests,
        round(tokens) if known else None,
        round(unique) if known else None,
        written,
        price=_price(spec, tokens, written),
    )


def _turns(ask: Sequence[Request], count: int) -> Iterator[Request]:
    """Each request of a sample once for every turn of its conversation, numbered from 0."""
    for request in ask:
        yield from (replace(request, label=str(n)) for n in range(count))


def _turn(request: Request) -> int:
    """How many turns of the model come before a request."""
    return int(request.label or 0) if request.mode == "gen" else 0


def _price(spec: ModelSpec, tokens: float, written: int) -> float | None:
    """The price of prompts and full outputs by the prices of a model config; None without any."""
    pricing = entry_of(spec).pricing(spec)
    return pricing.price(tokens, written) if pricing and pricing.has_prices else None


def spending(planned: Planned) -> Iterator[str]:
    """What each model that costs money, or has a budget, will take at most."""
    for name, spec in planned.plan.models.items():
        pricing = entry_of(spec).pricing(spec)
        pairs = [pair for pair in planned.runnable if pair.model == name]
        if pricing is None or not pairs:
            continue
        parts = [_count(planned.plan, pair) for pair in pairs]
        tokens, written = sum(f.tokens or 0 for f in parts), sum(f.written for f in parts)
        text = f"{name}: {sum(f.requests for f in parts):,} requests, about {tokens:,} prompt tokens, "
        text += f"at most {written:,} output tokens"
        price = sum(f.price or 0.0 for f in parts)
        text += f", at most about {price:.2f} by the config's prices" if price else ""
        over_budget = (pricing.budget and price > pricing.budget) or (
            pricing.budget_tokens and tokens + written > pricing.budget_tokens
        )
        yield text + ("; the budget may end the run before it is done" if over_budget else "")


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    """At most `COUNTED` samples, evenly spread."""
    step = max(1.0, len(samples) / COUNTED)
    return [samples[int(i * step)] for i in range(min(COUNTED, len(samples)))]


def _unique(ids: Sequence[Sequence[tuple[Any, ...]]], count: int) -> float:
    """Unique tokens of `count` samples, drawn on in a straight line from the tokens of the given ones."""
    whole = unique_length(i for ask in ids for i in ask)
    if count == len(ids):
        return whole
    half = unique_length(i for ask in ids[::2] for i in ask)
    more = len(ids) - len(ids[::2])
    return whole + (whole - half) / more * (count - len(ids))


def _encoder(plan: RunPlan, pair: Pair) -> Encode | None:
    """The tokenizer of the pair's model; None where there is none to read, pieces of about its size for an API."""
    spec = plan.models[pair.model]
    try:
        return plan.load_tokenizer(spec).encode
    except DataError:
        return entry_of(spec).rough_tokens


def _expected(plan: RunPlan, pair: Pair, item: Forecast, engine: Any) -> float:
    """Seconds of all samples, from the time of a few.

    Scoring goes with the unique tokens, generation with the samples, whose outputs end by themselves.
    """
    task = plan.task(pair)
    subset = max(task.scored, key=lambda s: len(task.samples(s)))
    tried = task.samples(subset)[: TRIED_WRITTEN if item.mode == "gen" else TRIED_SCORED]
    asks = [list(plan.requests(pair, sample)) for sample in tried]
    _answer(engine, asks[:1])  # the first pass pays for threads, kernels and memory
    seconds = _answer(engine, asks)
    if item.mode == "gen":
        return seconds / sum(map(len, asks)) * item.requests
    encode = _encoder(plan, pair) or str.encode
    size = unique_length(tuple(encode(text_of(r))) for ask in asks for r in ask)
    return seconds / max(1, size) * (item.unique if item.unique is not None else size / len(tried) * item.samples)


def _answer(engine: Any, asks: Sequence[Sequence[Request]]) -> float:
    """Seconds that some requests take."""
    began = time.perf_counter()
    for _ in engine.run([request for ask in asks for request in ask]):
        pass
    return time.perf_counter() - began


def _resident_peak() -> int:
    """Most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def duration(seconds: float | None) -> str:
    """`2 h 05 min`, `3 min 20 s`, `12 s`."""
    if seconds is None:
        return "-"
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
