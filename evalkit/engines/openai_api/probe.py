"""Whether a server truly gives the log-probabilities of a prompt, found out before a run.

A server that ignores `echo` or `logprobs`, cuts prompts, or returns anything else than the model's log-probabilities
would score chance without a word.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise

from evalkit.core.errors import ModelError
from evalkit.core.records import ModelSpec
from evalkit.engines.openai_api.client import Client
from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.local import LocalTokens
from evalkit.engines.openai_api.options import Options
from evalkit.engines.openai_api.prompts import Scored, ask_scored, check_logprob, score_body

TEXT = "Question: What is the capital of France?\nAnswer: Paris"
ENDS = (" is old.", " was late, and", ": 42 (forty-two)")
"""Continued differently, the text must keep its values, and the first new place its distribution."""
LONG = 24
"""Repetitions of the text that show whether long prompts are cut."""
SHARED_LINES = 24
"""Lines that two prompts have in common, about 300 tokens: more than a block of any server's cache of prefixes."""
SAME = 0.1
"""Most difference, in nats, between values of one token; batching in half precision stays below."""
HINT = (
    "run gen configs (`run.py list datasets '*gen*'`), or serve the model so that it gives them; see docs/api_models.md"
)


@dataclass(frozen=True)
class Layout:
    """How this server shows the tokens of a prompt."""

    style: str
    hides: int
    """Tokens in front that are counted, not shown: 1 where a BOS is hidden."""
    shows_bos: bool
    """The first token shown is a special one."""


async def probe(client: Client, spec: ModelSpec, options: Options, local: LocalTokens | None) -> Layout:
    """How to score prompts at this server; ModelError, with the reason, when it cannot be done rightly."""
    styles = ("echo", "vllm") if options.prompt_logprobs == "auto" else (options.prompt_logprobs,)
    reasons = []
    for style in styles:
        try:
            return await _probe(client, spec, options, style, local)
        except Rejected as error:
            reasons.append(f"{style}: {error.why}" if len(styles) > 1 else error.why)
    said = "; ".join(reasons)
    raise ModelError(f"{spec.name}: no usable log-probabilities of prompts from {options.base_url}: {said}", HINT)


async def _probe(client: Client, spec: ModelSpec, options: Options, style: str, local: LocalTokens | None) -> Layout:
    """The checks, one after the other; Rejected at the first that fails."""

    async def ask(text: str, **more: object) -> Scored:
        return await ask_scored(client, score_body(spec.path, text, style, options, 2, **more), style, None)

    plain = await ask(TEXT)
    if plain.hidden not in (0, 1) or len(plain.tokens) < 4:
        raise Rejected(f"the prompt counts {plain.count} tokens, {len(plain.tokens)} are shown")
    _probabilities(plain)
    others = await asyncio.gather(*(ask(TEXT + end) for end in ENDS))
    for scored in others:
        _probabilities(scored)
    if len({round(s.loss(1), 6) for s in (plain, *others)}) < 1 + len(ENDS):
        raise Rejected("different texts get the same log-probability")
    for scored in others:
        _causal(plain, scored)
    for one, other in pairwise(others):
        _aligned(one, other)
    _same(plain, await ask(TEXT, temperature=0.5, top_p=0.5, seed=7), "sampling parameters")
    await _whole(ask, plain)
    await _repeatable(ask)
    shows_bos = style == "echo" and plain.hidden == 0 and "".join(plain.tokens[1:]).lstrip() == TEXT
    if local is not None:
        local.check(TEXT, plain.count)
        for end, scored in zip(ENDS, others, strict=True):
            local.check(TEXT + end, scored.count)
    return Layout(style, plain.hidden, shows_bos)


def _probabilities(scored: Scored) -> None:
    """Every value is a log-probability, at most that of the likeliest token, and they are not all one."""
    values = scored.logprobs[1:]
    for value in values:
        check_logprob(value)
    if len(set(values)) == 1:
        raise Rejected("all tokens have the same log-probability")
    for value, best in zip(values, scored.best[1:], strict=True):
        if best is not None:
            check_logprob(best)
            if value is not None and value > best + SAME:
                raise Rejected("a token is likelier than the likeliest")


def _common(one: Scored, other: Scored) -> int:
    """Tokens that two prompts share at the front."""
    pairs = zip(one.tokens, other.tokens, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one.tokens), len(other.tokens)))


def _causal(one: Scored, other: Scored) -> None:
    """What follows a token must not change its value."""
    shared = _common(one, other)
    if shared < 4:
        raise Rejected("two prompts that begin alike share no tokens")
    for a, b in zip(one.logprobs[1:shared], other.logprobs[1:shared], strict=True):
        if a is None or b is None or abs(a - b) > SAME:
            raise Rejected("the log-probability of a token changes with the text behind it")


def _aligned(one: Scored, other: Scored) -> None:
    """At the first place where two prompts differ the distribution is the same: it is that before the token.

    llama-cpp-python's server shows that behind the token for models without BOS.
    """
    place = _common(one, other)
    if place >= min(len(one.tokens), len(other.tokens)):
        return
    a, b = one.best[place], other.best[place]
    if a is None or b is None:
        raise Rejected("the server does not give the likeliest tokens, so that its values cannot be checked")
    if abs(a - b) > SAME:
        raise Rejected("the values belong to other tokens: the distribution before a token depends on the token")


def _same(one: Scored, other: Scored, what: str) -> None:
    if one.tokens != other.tokens:
        raise Rejected(f"the tokens of a prompt change with {what}")
    for a, b in zip(one.logprobs[1:], other.logprobs[1:], strict=True):
        if a is None or b is None or abs(a - b) > SAME:
            raise Rejected(f"the log-probability of a prompt changes with {what}")


async def _whole(ask: Callable[[str], Awaitable[Scored]], plain: Scored) -> None:
    """A long prompt has all its tokens; one that the server says is too long was at least not cut."""
    try:
        scored = await ask(" ".join([TEXT] * LONG))
    except Rejected as error:
        if error.too_long:
            return
        raise
    if len(scored.tokens) < (LONG - 1) * (len(plain.tokens) - 2):
        raise Rejected(f"the server cuts prompts: {LONG} times {plain.count} tokens became {scored.count}")


async def _repeatable(ask: Callable[[str], Awaitable[Scored]]) -> None:
    """Two long prompts that begin alike have the same values in either order.

    A server that keeps prefixes may return other values for what it kept (vLLM's issue 42019). The prompts
    are new ones each time, so that nothing of them is kept from an earlier probe.
    """
    mark = secrets.token_hex(4)
    front = "".join(f"Line {i} of {mark}: {TEXT.splitlines()[i % 2]}\n" for i in range(SHARED_LINES))
    order = [front + ENDS[0], front + ENDS[1], front + ENDS[1], front + ENDS[0]]
    try:
        first, second, second_again, first_again = [await ask(text) for text in order]
    except Rejected as error:
        if error.too_long:
            return
        raise
    what = "what was asked before: does the server keep prefixes (--no-enable-prefix-caching for vLLM)"
    shared = _common(first, second)
    _same(first.front(shared), second.front(shared), what)
    _same(second, second_again, what)
    _same(first, first_again, what)
