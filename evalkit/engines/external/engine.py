"""Engines of other packages: prompts and outputs by the rules of the hf engine, the numbers by theirs.

Tokens, truncation, chat templates, stop criteria and cuts are the hf engine's own code, so that a score
differs by the arithmetic alone. A backend gets token ids and gives token ids, or sums of losses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from evalkit.core.digest import digest
from evalkit.core.errors import ModelError, first_line
from evalkit.core.records import GenSettings, ModelSpec, Reply, Request
from evalkit.engines.hf.score.trie import Ids
from evalkit.engines.hf.tokens import Encoded, Encoder, group_equal

CHUNK = 256
"""Requests that are handed over at once; their replies are stored together."""
NOISE = 0.25
"""Nats by which a sum over more tokens may be the lower one, where it is a difference in half precision."""
SAME = 1e-6
SHARED, TAIL = 160, 16
"""Tokens that the probe's two long texts have in common, more than two blocks of a cache, and behind that."""
PART = 16
"""Tokens over which the noise of half precision adds up to `NOISE`; it grows with the square root."""
PROBE = "The quick brown fox counts 1, 2, 3 and 12345 times. 你好!\nDoes it stop?"


@dataclass(frozen=True)
class GenerationRequest:
    """One generation: what a backend needs to know of it."""

    ids: Ids
    gen: GenSettings
    stops: tuple[str, ...]
    """Texts that end it early, where the backend can look for them; the output is cut at them again."""
    end_ids: tuple[int, ...]
    keep_special: bool
    """Whether stops are looked for in the text with special tokens."""
    seed: int
    """For sampled generations; equal for equal requests."""


class GenerationBackend(Protocol):
    """A loaded model of another package."""

    @property
    def limit(self) -> int:
        """Most tokens of prompt and output together."""
        ...

    def continuation_nll(self, texts: Sequence[tuple[Ids, int]]) -> list[float | None]:
        """Negative log-likelihood, in nats, of the last n tokens of each text (n at most its length - 1).

        None where the package gives none. Raises ModelError when it cannot score at all.
        """
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[list[int] | str]:
        """New token ids of each, or why there are none."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """For the manifest."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


class ExternalEngine:
    """Answers requests through a backend."""

    def __init__(self, spec: ModelSpec, backend: GenerationBackend, bundle: Any) -> None:
        """`bundle` is the checkpoint's `TokenizerBundle`.

        Probes log-probabilities, which are refused once they are asked for.
        """
        self._spec = spec
        self._backend = backend
        self._bundle = bundle
        self._encoder = Encoder(bundle.tokenizer, spec, backend.limit, bundle.vocab_size)
        self._problem = self._probe()

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """One reply a request, chunk by chunk; scoring comes first.

        Raises ModelError where log-probabilities are asked for and the probe found none.
        """
        encoded = [self._encoder.encode(request) for request in requests]
        yield from (item.failed(item.error) for item in encoded if item.error)
        ready = [item for item in encoded if not item.error]
        yield from self._score([item for item in ready if item.request.mode != "gen"])
        # prompts that begin alike stand together, for the cache of prefixes
        yield from self._write(sorted((i for i in ready if i.request.mode == "gen"), key=lambda i: i.ids))

    def _score(self, items: Sequence[Encoded]) -> Iterator[Reply]:
        if items and self._problem is not None:
            raise self._problem
        groups = {(group[0].ids, group[0].scored): group for group in group_equal(items, by_scored=True)}
        ordered = sorted(groups)
        for start in range(0, len(ordered), CHUNK):
            texts, began = ordered[start : start + CHUNK], time.perf_counter()
            sums = self._backend.continuation_nll(texts)
            seconds = (time.perf_counter() - began) / len(texts)
            for text, total in zip(texts, sums, strict=True):
                yield from (_scored(item, total, seconds) for item in groups[text])

    def _write(self, items: Sequence[Encoded]) -> Iterator[Reply]:
        from evalkit.engines.hf.generate.plain import Writer, settings

        writers = {
            chat: Writer(None, self._bundle.tokenizer, self._bundle.stop_criteria, chat) for chat in (False, True)
        }
        for start in range(0, len(items), CHUNK):
            chunk, began = items[start : start + CHUNK], time.perf_counter()
            requests = []
            for item in chunk:
                writer = writers[bool(item.request.turns)]
                gen, stops = settings(item), writer.plan(item).stops
                requests.append(
                    GenerationRequest(item.ids, gen, stops, writer.end_ids(), writer.chat, seed_of(item.request))
                )
            rows = self._backend.generate(requests)
            seconds = (time.perf_counter() - began) / len(chunk)
            for item, row in zip(chunk, rows, strict=True):
                if isinstance(row, str):
                    yield item.failed(row)
                else:
                    yield writers[bool(item.request.turns)].reply(item, row, None, seconds)

    def _probe(self) -> ModelError | None:
        """The error that scoring would be refused with; None when texts are scored as they should be."""
        ids = self._encoder.encode(Request("", "", "ppl", text=PROBE)).ids
        try:
            why = fault(self._backend.continuation_nll([(ids, n) for n in range(1, len(ids))]))
            why = why or order_fault(self._backend, ids)
        except ModelError as error:
            return error
        if not why:
            return None
        return ModelError(
            f"the {self._spec.engine} engine gives no usable log-probabilities: {why}",
            "score with --engine hf, or choose gen configs: `run.py list datasets '*gen*'`",
        )

    def describe(self) -> Mapping[str, Any]:
        """Facts for the manifest."""
        said = self._problem.message if self._problem else "a probe scored a short text"
        common = {"engine": self._spec.engine, "max_seq_len": self._encoder.max_seq_len, "log_probabilities": said}
        return {**common, "vocab_size": self._encoder.vocab_size, **self._backend.facts()}

    def close(self) -> None:
        """Give the device back."""
        self._backend.close()


def import_package(name: str) -> Any:
    """The package of an engine; ModelError, with the way to install it, when it cannot be imported."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ModelError(
            f"the package {name} cannot be imported: {error}",
            f"pip install 'evalkit[{name}]' in an environment of its own, or --engine hf",
        ) from error


@contextmanager
def loading(package: str, spec: ModelSpec, option: str) -> Iterator[None]:
    """Turns what a package raises while it loads a model into a ModelError; `option` is its share of memory."""
    try:
        yield
    except (RuntimeError, ValueError, OSError, ImportError, TypeError, AssertionError) as error:
        raise ModelError(
            f"{package} cannot load {spec.path}: {type(error).__name__}: {first_line(error)}",
            f"the traceback is in the worker's log; --max-seq-len, --gpus-per-model and options.{option} "
            "decide what fits",
        ) from error


def fault(sums: Sequence[float | None]) -> str:
    """What is wrong with the summed losses of the last 1, 2, … tokens of one text; empty when nothing is.

    Catches packages that leave log-probabilities out, or give the same for every token: scores from
    these would be chance.
    """
    known = [total for total in sums if total is not None]
    if len(known) < len(sums):
        return f"{len(sums) - len(known)} of {len(sums)} are missing"
    if not all(math.isfinite(total) for total in known):
        return "some are not finite"
    losses = [b - a for a, b in zip([0.0, *known], known, strict=False)]
    if max(losses) - min(losses) < SAME:
        return "all tokens have the same"
    if min(losses) < -NOISE:
        return f"more tokens have a lower sum (by {-min(losses):.2f} nats)"
    return ""


def order_fault(backend: GenerationBackend, ids: Ids) -> str:
    """What is wrong with two long texts that begin alike, asked one by one in two orders; empty when nothing is.

    `ids` are the tokens of a text to make them of. Catches packages that return other values for a prefix
    that they have kept (vLLM's issue 42019): only what is asked first is computed anew.
    """
    room = min(SHARED, backend.limit - TAIL)
    shared = (ids * (SHARED // len(ids) + 1))[:room]
    first, second = (shared + (ids[start:] + ids)[:TAIL] for start in (3, 7))
    if room < 2 or first == second:
        return ""

    def total(text: Ids, count: int) -> float:
        loss = backend.continuation_nll([(text, count)])[0]
        return math.nan if loss is None else loss

    whole = len(first) - 1
    asked = [total(text, whole) for text in (first, second, second, first)]
    fronts = [asked[0] - total(first, TAIL), asked[1] - total(second, TAIL)]
    pairs = [(asked[0], asked[3]), (asked[1], asked[2]), (fronts[0], fronts[1])]
    worst = max((abs(a - b) for a, b in pairs), key=lambda x: (math.isnan(x), x))
    if not worst <= NOISE * math.sqrt(whole / PART):  # NaN, too
        return f"those of a text change by {worst:.2f} nats with what was asked before (a cache of prefixes does that)"
    return ""


def caches_prefixes(spec: ModelSpec) -> bool:
    """Whether prefixes are cached: as the option `prefix_caching` says, else for chat models, which generate."""
    return bool(spec.options.get("prefix_caching", spec.kind == "chat"))


def refuse_cached(spec: ModelSpec, package: str) -> None:
    """ModelError where log-probabilities are asked of an engine that caches prefixes: they may be stale."""
    if caches_prefixes(spec):
        raise ModelError(
            f"{package} gives no reliable log-probabilities of prompts while it caches prefixes",
            "--set model.options.prefix_caching=false, for ppl and ll benchmarks",
        )


def seed_of(request: Request) -> int:
    """The seed of a sampled request, 31 bits: from its settings, its draw and its content."""
    seed = request.gen.seed if request.gen else 0
    return int(digest([seed, request.repeat, request.key])[:15], 16) % 2**31


def _scored(item: Encoded, total: float | None, seconds: float) -> Reply:
    from evalkit.engines.hf.score.plain import reply

    return item.failed("no log-probability was returned") if total is None else reply(item, total, seconds)
