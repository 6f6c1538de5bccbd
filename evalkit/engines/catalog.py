"""The engines: one entry each, which is all that the rest of evalkit knows of an engine.

A new engine is added here, or by a package that names its entry under the entry point group
`evalkit.engines`. Entries import their engine only when it is created, so that reading this costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from evalkit.core.digest import digest
from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import ModelSpec
from evalkit.core.registry import did_you_mean
from evalkit.engines import checkpoint
from evalkit.engines.base import Engine
from evalkit.engines.long_prompts import LongPrompts, plan_long_prompts
from evalkit.engines.openai_api import options as api
from evalkit.engines.recorded import engine as recorded

PLUGINS = "evalkit.engines"
"""Entry point group of engines that other packages bring."""
PERFORMANCE_FIELDS = ("gpus", "device", "batch_tokens")
"""Fields of every ModelSpec that decide how fast replies come, by design never which."""
REPLY_FIELDS = (
    "kind",
    "engine",
    "dtype",
    "max_seq_len",
    "system_prompt",
    "chat_template",
    "end_strings",
    "trust_remote_code",
    "attn_implementation",
)
"""Fields of a ModelSpec that change a reply; the paths enter by the content behind them."""


def _no_packages(spec: ModelSpec) -> Mapping[str, str]:
    return {}


def _no_check(spec: ModelSpec) -> None:
    """Nothing to check."""


def _always(spec: ModelSpec) -> bool:
    return True


def _by_path(spec: ModelSpec) -> dict[str, Any]:
    return {**reply_facts(spec), "path": spec.path}


@dataclass(frozen=True)
class Pricing:
    """What an engine's replies cost, in the unit of the model config, and what may be spent."""

    per_million_in: float
    per_million_out: float
    budget: float = 0.0
    """Most money of one command; 0: no limit."""
    budget_tokens: int = 0
    """Most tokens of one command; 0: no limit."""

    def price(self, tokens_in: float, tokens_out: float) -> float:
        """The price of so many prompt and output tokens."""
        return (tokens_in * self.per_million_in + tokens_out * self.per_million_out) / 1e6

    @property
    def has_prices(self) -> bool:
        """Whether money can be counted at all."""
        return bool(self.per_million_in or self.per_million_out)


@dataclass(frozen=True)
class EngineEntry:
    """Everything that planning, running and reporting need to know of an engine."""

    name: str
    create: Callable[[ModelSpec], Engine]
    """Loads the model; ModelError when that fails."""
    performance_options: tuple[str, ...] = ()
    """`options:` that never change a prediction, by design: not in the fingerprint, so a run goes on with another
    value."""
    reply_options: tuple[str, ...] = ()
    """`options:` that may change a reply: in the fingerprint."""
    check_options: Callable[[ModelSpec], None] = _no_check
    """Looks at the values of the options; ConfigError. Unknown names are refused for every engine."""
    packages: Callable[[ModelSpec], Mapping[str, str]] = _no_packages
    """extra -> package that this config needs installed."""
    separate_environment: bool = False
    """Whether the engine's own package must live in an environment of its own."""
    identity: Callable[[ModelSpec], dict[str, Any]] = _by_path
    """Everything that decides the replies; its digest is the model's fingerprint. ModelError when it is not there."""
    preflight: Callable[[ModelSpec], None] = _no_check
    """Checks before a run that load no model; ModelError."""
    scores_prompts: Callable[[ModelSpec], bool] = _always
    """Whether ppl and ll may be asked of this model."""
    check_scoring: Callable[[ModelSpec], None] = _no_check
    """Run once before a run that asks for log-probabilities; ModelError when the engine gives none."""
    gen_instead: bool = False
    """Whether a family's gen config takes the place of a ppl config where prompts cannot be scored."""
    reads_checkpoint: bool = False
    """Whether `path` is a checkpoint, in a folder or on the hub; such an engine can be named by `--engine`."""
    uses_device: bool = True
    """Whether it computes here: takes GPU slots, and cores of the CPU."""
    long_prompts: Callable[[ModelSpec, int], LongPrompts | None] = lambda spec, tokens: None
    """The arithmetic of rows of so many tokens, where the engine plans its memory."""
    recorded: bool = False
    """Whether replies are outputs made elsewhere: matched to samples before the run, given by the run's own process
    and never asked for by prompt. Such an engine has no tokenizer, no speed and no log-probabilities."""
    rough_tokens: Callable[[str], Sequence[Any]] | None = None
    """A text in pieces of about a token each, where no tokenizer can be read."""
    token_statistics: bool = False
    """Whether it gives the numbers of each token of a text (`Request.token_statistics`), which take all logits."""
    tokens_written_per_score: int = 0
    """Output tokens that one scored request costs."""
    pricing: Callable[[ModelSpec], Pricing | None] = lambda spec: None
    """Prices and budget of a model config; None where its replies cost nothing."""

    def known_options(self) -> tuple[str, ...]:
        """Names that `options:` may have."""
        return self.performance_options + self.reply_options


def find_engine(name: str) -> EngineEntry:
    """The entry of an engine, ours or another package's; ConfigError with near matches."""
    if name in ENGINES:
        return ENGINES[name]
    plugins = plugin_engines()
    if name in plugins:
        return plugins[name]
    raise ConfigError(f"unknown engine {name!r}", did_you_mean(name, [*ENGINES, *plugins]))


def entry_of(spec: ModelSpec) -> EngineEntry:
    """The entry of a model's engine; ConfigError that names the model."""
    try:
        return find_engine(spec.engine)
    except ConfigError as error:
        raise ConfigError(f"{error.message} of model {spec.name}", error.hint) from error


@lru_cache(maxsize=1)
def plugin_engines() -> Mapping[str, EngineEntry]:
    """Entries that installed packages bring; ConfigError for one that is no entry."""
    found: dict[str, EngineEntry] = {}
    for point in entry_points(group=PLUGINS):
        entry = point.load()
        if not isinstance(entry, EngineEntry):
            raise ConfigError(f"the entry point {point.value} is no EngineEntry", f"see the group {PLUGINS!r}")
        found[entry.name] = entry
    return MappingProxyType(found)


def create_engine(spec: ModelSpec) -> Engine:
    """The loaded engine for `spec.engine`.

    Raises ConfigError for an unknown engine or option, ModelError when the model cannot be loaded.
    """
    check_options(spec)
    check_packages(spec)
    return entry_of(spec).create(spec)


def check_options(spec: ModelSpec) -> None:
    """ConfigError, with near matches, for an engine that does not exist, or an option that it does not have."""
    entry = entry_of(spec)
    entry.check_options(spec)
    for name in spec.options:
        if name not in entry.known_options():
            raise ConfigError(
                f"unknown option {name!r} of the {spec.engine} engine (model {spec.name})",
                did_you_mean(name, entry.known_options()),
            )


def check_packages(spec: ModelSpec) -> None:
    """ModelError when a package that the config asks for is not installed; nothing is imported."""
    entry = entry_of(spec)
    for extra, package in entry.packages(spec).items():
        if find_spec(package) is None:
            alone = entry.separate_environment and package == spec.engine
            where = " in an environment of its own, or --engine hf" if alone else ""
            raise ModelError(f"{spec.name} needs the package {package}", f"pip install 'evalkit[{extra}]'{where}")


def preflight(spec: ModelSpec) -> None:
    """All checks of a model that load nothing; ModelError."""
    check_trust(spec)
    check_packages(spec)
    entry_of(spec).preflight(spec)


def check_trust(spec: ModelSpec) -> None:
    """ModelError when a config says that its checkpoint runs code of its own, and nobody allowed that."""
    if spec.needs_remote_code and not spec.trust_remote_code:
        raise ModelError(
            f"{spec.name} runs code that comes with the checkpoint ({spec.path})",
            "give --trust-remote-code if you trust its author",
        )


def identity(spec: ModelSpec) -> dict[str, Any]:
    """Everything about a model that decides its replies, as its engine knows it.

    What affects speed alone is left out, as are the name, notes, and how reasoning is cut off, which acts on
    replies that are there. ModelError when a local path does not exist, or an endpoint does not answer.
    """
    return entry_of(spec).identity(spec)


def fingerprint(spec: ModelSpec) -> str:
    """Digest of everything about a model that decides its replies: of its `identity`."""
    return digest(identity(spec))


def reply_facts(spec: ModelSpec) -> dict[str, Any]:
    """The settings of a model config that change a reply."""
    facts: dict[str, Any] = {field: getattr(spec, field) for field in REPLY_FIELDS}
    return {**facts, "options": reply_options(spec)}


def reply_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that enter the fingerprint."""
    fast = entry_of(spec).performance_options
    return {name: value for name, value in spec.options.items() if name not in fast}


def performance(spec: ModelSpec) -> dict[str, Any]:
    """The settings that affect speed alone, as the manifest records them."""
    fast = entry_of(spec).performance_options
    facts: dict[str, Any] = {name: getattr(spec, name) for name in PERFORMANCE_FIELDS}
    return {**facts, **{name: value for name, value in spec.options.items() if name in fast}}


def checkpoint_identity(spec: ModelSpec) -> dict[str, Any]:
    """Identity of a model that is read from a checkpoint: its settings and the content of its files.

    A copy elsewhere has the same fingerprint. A hub checkpoint enters by its id and the commit in the local
    cache (`main` where it is not cached).
    """
    facts = {**reply_facts(spec), "checkpoint": checkpoint.content(spec.path, spec.revision, spec.trust_remote_code)}
    if spec.peft_path:
        facts["adapter"] = checkpoint.content(spec.peft_path, "", code=False)
    return facts


def checkpoint_preflight(spec: ModelSpec) -> None:
    """The checkpoint is in the local cache and looks whole; ModelError."""
    checkpoint.fetch_checkpoint(spec.path, spec.revision)
    if spec.peft_path:
        checkpoint.fetch_checkpoint(spec.peft_path)
    checkpoint.check_checkpoint(spec)


def _create_hf(spec: ModelSpec) -> Engine:
    from evalkit.engines.hf.engine import HFEngine

    return HFEngine(spec)


def _hf_packages(spec: ModelSpec) -> Mapping[str, str]:
    wanted = {"quantization": "bitsandbytes"} if spec.options.get("quantization") else {}
    return {**wanted, "peft": "peft"} if spec.peft_path else wanted


def _check_truncation(spec: ModelSpec) -> None:
    where = spec.options.get("truncation", "left")
    if where not in ("left", "middle"):
        raise ConfigError(f"truncation: {where!r} is unknown (model {spec.name})", "left or middle")


def _create_vllm(spec: ModelSpec) -> Engine:
    from evalkit.engines.external.vllm import make_engine

    return make_engine(spec)


def _create_lmdeploy(spec: ModelSpec) -> Engine:
    from evalkit.engines.external.lmdeploy import make_engine

    return make_engine(spec)


def _create_api(spec: ModelSpec) -> Engine:
    from evalkit.engines.openai_api.engine import APIEngine

    return APIEngine(spec)


def _api_identity(spec: ModelSpec) -> dict[str, Any]:
    from evalkit.engines.openai_api.endpoint import endpoint_identity

    return {**reply_facts(spec), "endpoint": endpoint_identity(spec)}


def _check_api_scoring(spec: ModelSpec) -> None:
    from evalkit.engines.openai_api.endpoint import check_scoring

    check_scoring(spec)


def _check_api_options(spec: ModelSpec) -> None:
    api.options_of(spec)


def _api_tokens(text: str) -> Sequence[Any]:
    from evalkit.engines.openai_api.limits import rough_tokens

    return rough_tokens(text)


def _api_pricing(spec: ModelSpec) -> Pricing | None:
    values = {name: spec.options.get(name, 0) for name in ("price_in", "price_out", "budget", "budget_tokens")}
    return Pricing(*values.values()) if any(values.values()) else None


def _create_recorded(spec: ModelSpec) -> Engine:
    raise ModelError(f"{spec.name} is a recording: it answers nothing by itself", "name it as --models recorded:PATH")


def _create_fake(spec: ModelSpec) -> Engine:
    from evalkit.engines.fake import FakeEngine

    return FakeEngine(spec)


ENGINES: Mapping[str, EngineEntry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            EngineEntry(
                "hf",
                _create_hf,
                performance_options=("engine_path", "generation_path"),
                reply_options=("quantization", "truncation"),
                check_options=_check_truncation,
                packages=_hf_packages,
                long_prompts=plan_long_prompts,
                identity=checkpoint_identity,
                preflight=checkpoint_preflight,
                reads_checkpoint=True,
                token_statistics=True,
            ),
            EngineEntry(
                "vllm",
                _create_vllm,
                performance_options=(
                    "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "prefix_caching",
                    "enforce_eager",
                ),
                reply_options=("quantization", "truncation"),
                check_options=_check_truncation,
                packages=lambda spec: {"vllm": "vllm"},
                separate_environment=True,
                identity=checkpoint_identity,
                preflight=checkpoint_preflight,
                reads_checkpoint=True,
            ),
            EngineEntry(
                "lmdeploy",
                _create_lmdeploy,
                performance_options=("cache_max_entry_count", "max_batch_size", "prefix_caching"),
                reply_options=("model_format", "quant_policy", "truncation"),
                check_options=_check_truncation,
                packages=lambda spec: {"lmdeploy": "lmdeploy"},
                separate_environment=True,
                identity=checkpoint_identity,
                preflight=checkpoint_preflight,
                reads_checkpoint=True,
            ),
            EngineEntry(
                api.ENGINE,
                _create_api,
                performance_options=api.PERFORMANCE,
                reply_options=api.REPLY,
                check_options=_check_api_options,
                identity=_api_identity,
                scores_prompts=api.scores_prompts,
                check_scoring=_check_api_scoring,
                gen_instead=True,
                uses_device=False,
                rough_tokens=_api_tokens,
                tokens_written_per_score=1,  # servers do not take 0; it is thrown away
                pricing=_api_pricing,
            ),
            EngineEntry(
                recorded.ENGINE,
                _create_recorded,
                reply_options=(recorded.FIELD,),
                identity=recorded.recorded_identity,
                scores_prompts=lambda spec: False,
                uses_device=False,
                recorded=True,
            ),
            EngineEntry(
                "fake",
                _create_fake,
                # whether it answers, never what it answers
                performance_options=("seconds", "gen_seconds", "crash_on", "hang_on", "fail_on", "error_on", "prints"),
                uses_device=False,
            ),
        )
    }
)  # fmt: skip
"""The engines that come with evalkit, by the name that model configs use."""
