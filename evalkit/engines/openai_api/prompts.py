"""Log-probabilities of the tokens of a prompt, as servers give them.

`echo`: completions with `echo` and `logprobs`, as OpenAI defined it; llama-cpp-python's server, vLLM.
`vllm`: completions with `prompt_logprobs`. One token is generated and thrown away in both: servers differ in what they
take no token at all for (llama-cpp-python: until the context is full).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.engines.openai_api.client import Client
from evalkit.engines.openai_api.faults import Rejected
from evalkit.engines.openai_api.limits import rough_tokens
from evalkit.engines.openai_api.messages import COMPLETIONS, finished, first_choice
from evalkit.engines.openai_api.options import Options

NO_PROBABILITY = 1e-3
"""Above this a log-probability is none; float noise stays below."""
LEAST = -9000.0
"""Stands for minus infinity (vLLM writes -9999)."""


@dataclass(frozen=True)
class Scored:
    """The tokens of one prompt. The first one's log-probability is never used unless `hidden` is 1."""

    tokens: tuple[str, ...]
    """Texts (`echo`) or ids (`vllm`) of the tokens that the server shows."""
    logprobs: tuple[float | None, ...]
    best: tuple[float | None, ...]
    """Log-probability of the likeliest token at each place, where asked for."""
    count: int
    """Tokens of the prompt as the server counts them."""

    @property
    def hidden(self) -> int:
        """Tokens that are counted and not shown: a BOS."""
        return self.count - len(self.tokens)

    def front(self, count: int) -> Scored:
        """The first `count` of the tokens shown."""
        return Scored(self.tokens[:count], self.logprobs[:count], self.best[:count], count + self.hidden)

    def loss(self, start: int) -> float:
        """Minus the summed log-probability of the shown tokens from `start` on; Rejected when one is no number."""
        values = self.logprobs[start:]
        for value in values:
            check_logprob(value)
        return -math.fsum(v for v in values if v is not None)


def check_logprob(value: Any) -> None:
    """Rejected for what cannot be a log-probability."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Rejected("the server left out the log-probability of a token")
    if not math.isfinite(value) or value < LEAST:
        raise Rejected(f"the log-probability of a token is not finite ({value})")
    if value > NO_PROBABILITY:
        raise Rejected(f"a token has the log-probability {value:g}: above 0")


def score_body(model: str, text: str, style: str, options: Options, best: int = 0, **more: Any) -> dict[str, Any]:
    """The JSON that asks for a prompt's log-probabilities; `best`: how many of the likeliest tokens besides."""
    asked: dict[str, Any] = {"echo": True, "logprobs": max(1, best)} if style == "echo" else {"prompt_logprobs": best}
    body = {"model": model, "prompt": text, options.max_tokens_field: 1, "temperature": 0, **asked, **more}
    return finished(body, options)


async def ask_scored(client: Client, body: Mapping[str, Any], style: str, hides: int | None) -> Scored:
    """The scored prompt; `hides`: tokens at the front that this server does not show, None while that is unknown.

    Raises Rejected when the response does not hold the log-probabilities of the whole prompt.
    """
    text = str(body["prompt"])
    answer = await client.post(COMPLETIONS, body, (len(rough_tokens(text)) + 1, 1))
    usage = answer.value.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int) or count < 1:
        raise Rejected("the server does not say how many tokens the prompt has (usage.prompt_tokens)")
    choice = first_choice(answer.value)
    return read_echo(choice, text, count, hides) if style == "echo" else read_vllm(choice, count)


def read_echo(choice: Mapping[str, Any], text: str, count: int, hides: int | None) -> Scored:
    """What `echo` and `logprobs` gave; the tokens that were generated behind the prompt are cut off."""
    found = choice.get("logprobs")
    if not isinstance(found, dict) or not isinstance(found.get("token_logprobs"), list):
        raise Rejected("the server ignores `logprobs`: its response has none")
    if not str(choice.get("text") or "").startswith(text):
        raise Rejected("the server ignores `echo`, or cut the prompt: its response does not begin with it")
    tokens, values = [str(t) for t in found.get("tokens") or ()], found["token_logprobs"]
    if len(tokens) != len(values):
        raise Rejected(f"{len(tokens)} tokens, {len(values)} log-probabilities")
    shown = _shown(tokens, text, count) if hides is None else count - hides
    if not 0 < shown <= len(tokens) or len(tokens) - shown > 1:
        raise Rejected(f"the prompt has {count} tokens, the server gives {len(tokens)} log-probabilities")
    top = found.get("top_logprobs") or [None] * len(tokens)
    best = [max(entry.values()) if isinstance(entry, dict) and entry else None for entry in top]
    return Scored(tuple(tokens[:shown]), tuple(values[:shown]), tuple(best[:shown]), count)


def _shown(tokens: list[str], text: str, count: int) -> int:
    """How many of the tokens are the prompt's: those whose texts make it up, a special token in front left out."""
    for shown in (count, count - 1):
        for first in (0, 1):
            if 0 < shown <= len(tokens) and "".join(tokens[first:shown]).lstrip() == text.lstrip():
                return shown
    raise Rejected("the tokens of the response do not make up the prompt")


def read_vllm(choice: Mapping[str, Any], count: int) -> Scored:
    """What `prompt_logprobs` gave: a place, {token id: {logprob, …}}, the prompt's own token first."""
    found = choice.get("prompt_logprobs")
    if not isinstance(found, list) or not found:
        raise Rejected("the server ignores `prompt_logprobs`: its response has none")
    if len(found) != count:
        raise Rejected(f"the prompt has {count} tokens, the server gives {len(found)} log-probabilities")
    tokens: list[str] = []
    values: list[float | None] = []
    best: list[float | None] = []
    for place in found:
        entries = [(k, v.get("logprob")) for k, v in place.items() if isinstance(v, dict)] if place else []
        numbers = [v for _, v in entries if isinstance(v, (int, float))]
        tokens.append(entries[0][0] if entries else "")
        values.append(entries[0][1] if entries else None)
        best.append(max(numbers) if len(numbers) == len(entries) and numbers else None)
    return Scored(tuple(tokens), tuple(values), tuple(best), count)
