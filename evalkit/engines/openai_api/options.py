"""`options:` of a model config with `engine: openai_api`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from evalkit.core.errors import ConfigError
from evalkit.core.records import ModelSpec
from evalkit.core.registry import did_you_mean

ENGINE = "openai_api"
NO_KEYS = "keys come from the environment: name the variable in options.api_key_env"
WHOLE = ("concurrency", "tries", "max_stops", "budget_tokens")
DOCS = "see docs/api_models.md"
LOGPROB_STYLES = ("auto", "echo", "vllm", "none")
PERFORMANCE = (
    "api_key_env", "api_key_header", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout",
    "idle_timeout", "retry_seconds", "tries", "price_in", "price_out", "budget", "budget_tokens", "max_stops",
)  # fmt: skip
"""Options that decide how, when and at what price replies come, never which."""
REPLY = (
    "base_url", "query", "extra_body", "omit", "max_tokens_field", "prompt_logprobs", "tokenizer", "pin_model",
)  # fmt: skip
"""The others."""


@dataclass(frozen=True)
class Options:
    """How an endpoint is spoken to."""

    base_url: str = ""
    """Where `/chat/completions` and `/completions` are appended; usually ends in `/v1`."""
    api_key_env: str = ""
    """Environment variable that holds the key; empty: the endpoint needs none."""
    api_key_header: str = ""
    """Header that takes the bare key (Azure: `api-key`); empty: `Authorization: Bearer`."""
    query: Mapping[str, Any] = field(default_factory=dict)
    """Query parameters of every request (Azure: `api-version`)."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields put into every request."""
    omit: tuple[str, ...] = ()
    """Fields never sent (`temperature`, where an endpoint refuses it)."""
    max_tokens_field: str = "max_tokens"
    """Name of the output limit (`max_completion_tokens` for newer OpenAI models)."""
    max_stops: int = 4
    """Most stop strings that the endpoint takes; all of them are cut here as well. 0: none is sent."""
    prompt_logprobs: str = "auto"
    """Where ppl and ll come from: `echo` (completions with echo and logprobs), `vllm` (prompt_logprobs), `auto`
    (the first of them that passes the probe; none for chat models), `none`."""
    tokenizer: str = ""
    """The model's tokenizer, a folder or file: counts tokens, and checks the server's tokens when scoring."""
    pin_model: bool = True
    """Stop when replies begin to come from another model than at the start."""
    concurrency: int = 8
    """Most requests at once."""
    requests_per_minute: float = 0
    """0: no limit."""
    tokens_per_minute: float = 0
    """Prompt and output together; 0: no limit."""
    timeout: float = 600
    """Most seconds of one try."""
    idle_timeout: float = 120
    """Most seconds without a byte of a response that has begun, or that is much later than all others."""
    retry_seconds: float = 600
    """How long an endpoint may fail, be away, or ask to wait."""
    tries: int = 8
    """Tries of a request that fails while others succeed; waiting at a rate limit is none."""
    price_in: float = 0
    """Price of a million prompt tokens."""
    price_out: float = 0
    """Price of a million output tokens."""
    budget: float = 0
    """Most money of one command, in the unit of the prices; 0: no limit."""
    budget_tokens: int = 0
    """Most tokens of one command, prompts and outputs together; 0: no limit."""


def options_of(spec: ModelSpec) -> Options:
    """The checked options of a model config; ConfigError, which repeats no value that might be a secret."""
    known = {f.name: f for f in fields(Options)}
    for name in spec.options:
        if name in ("api_key", "key", "token", "headers"):
            raise ConfigError(f"{spec.name}: options.{name} is not taken", NO_KEYS)
        if name not in known:
            raise ConfigError(
                f"unknown option {name!r} of the {ENGINE} engine ({spec.name})", did_you_mean(name, known)
            )
    values = {name: _typed(spec.name, name, value) for name, value in spec.options.items()}
    options = Options(**values)
    _check_url(spec.name, options)
    if options.prompt_logprobs not in LOGPROB_STYLES:
        raise ConfigError(f"{spec.name}: unknown prompt_logprobs", f"one of {', '.join(LOGPROB_STYLES)}")
    for name in ("concurrency", "tries", "timeout", "idle_timeout"):
        if getattr(options, name) <= 0:
            raise ConfigError(f"{spec.name}: options.{name} must be above 0", DOCS)
    if options.budget and not (options.price_in or options.price_out):
        raise ConfigError(
            f"{spec.name}: a budget in money needs prices", "set price_in and price_out, or budget_tokens"
        )
    return options


def scores_prompts(spec: ModelSpec) -> bool:
    """Whether ppl and ll may be asked of this model at all; what the server truly gives, the probe finds out."""
    style = str(spec.options.get("prompt_logprobs", "auto"))
    return style in ("echo", "vllm") or (style == "auto" and spec.kind == "base")


def _typed(model: str, name: str, value: Any) -> Any:
    """A value of the option's own type."""
    default = getattr(Options(), name)
    kinds = {tuple: (list, tuple), int: (int, float)}.get(type(default), (type(default),))
    kinds = (int,) if name in WHOLE else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"{model}: options.{name} must be {' or '.join(k.__name__ for k in kinds)}", DOCS)
    if isinstance(value, (int, float)) and value < 0:
        raise ConfigError(f"{model}: options.{name} is negative", DOCS)
    return tuple(value) if isinstance(value, list) else value


def _check_url(model: str, options: Options) -> None:
    parts = urlsplit(options.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{model}: options.base_url is no http or https address", "base_url: http://127.0.0.1:8000/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"{model}: options.base_url holds more than an address", f"{NO_KEYS}; for others use options.query"
        )
    secret = [name for name in options.query if name.lower() in ("key", "api_key", "api-key", "apikey", "token")]
    if secret:
        raise ConfigError(f"{model}: options.query has {secret[0]!r}", NO_KEYS)
