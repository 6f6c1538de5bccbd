"""`options:` of model configs: which ones an engine has, and which of them are about speed alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from evalkit.core.errors import ConfigError, ModelError
from evalkit.core.records import ModelSpec
from evalkit.core.registry import did_you_mean
from evalkit.engines.openai_api import options as api

PERFORMANCE_FIELDS = ("gpus", "device", "batch_tokens")
"""Fields of every ModelSpec that decide how fast replies come, by design never which."""


@dataclass(frozen=True)
class EngineOptions:
    """The options of one engine."""

    performance: tuple[str, ...] = ()
    """Never change a prediction, by design: not in the fingerprint, so a run goes on with another value."""
    reply: tuple[str, ...] = ()
    """May change a reply: in the fingerprint."""


OPTIONS: Mapping[str, EngineOptions] = MappingProxyType(
    {
        "hf": EngineOptions(("engine_path", "generation_path"), ("quantization",)),
        "vllm": EngineOptions(
            ("gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "prefix_caching", "enforce_eager"),
            ("quantization",),
        ),
        "lmdeploy": EngineOptions(
            ("cache_max_entry_count", "max_batch_size", "prefix_caching"), ("model_format", "quant_policy")
        ),
        api.ENGINE: EngineOptions(api.PERFORMANCE, api.REPLY),
        # whether it answers, never what it answers
        "fake": EngineOptions(("seconds", "gen_seconds", "crash_on", "hang_on", "fail_on", "error_on")),
    }
)
"""Engines that are not listed check their options themselves; all of those enter the fingerprint."""


def check_options(spec: ModelSpec) -> None:
    """ConfigError, with near matches, for an option that the engine does not have."""
    if spec.engine == api.ENGINE:
        api.options_of(spec)
    if spec.engine not in OPTIONS:
        return
    known = OPTIONS[spec.engine].performance + OPTIONS[spec.engine].reply
    for name in spec.options:
        if name not in known:
            raise ConfigError(
                f"unknown option {name!r} of the {spec.engine} engine (model {spec.name})", did_you_mean(name, known)
            )


def check_packages(spec: ModelSpec) -> None:
    """ModelError when a package that the config asks for is not installed; nothing is imported."""
    wanted = {spec.engine: spec.engine} if spec.engine in ("vllm", "lmdeploy") else {}
    if spec.engine == "hf":
        wanted |= {"quantization": "bitsandbytes"} if spec.options.get("quantization") else {}
        wanted |= {"peft": "peft"} if spec.peft_path else {}
    for extra, package in wanted.items():
        if find_spec(package) is None:
            own = " in an environment of its own, or --engine hf" if extra == package != "peft" else ""
            raise ModelError(f"{spec.name} needs the package {package}", f"pip install 'evalkit[{extra}]'{own}")


def reply_options(spec: ModelSpec) -> dict[str, Any]:
    """The options that enter the fingerprint."""
    fast = OPTIONS.get(spec.engine, EngineOptions()).performance
    return {name: value for name, value in spec.options.items() if name not in fast}


def performance(spec: ModelSpec) -> dict[str, Any]:
    """What is about speed alone, as the manifest records it."""
    fast = OPTIONS.get(spec.engine, EngineOptions()).performance
    facts: dict[str, Any] = {name: getattr(spec, name) for name in PERFORMANCE_FIELDS}
    return {**facts, **{name: value for name, value in spec.options.items() if name in fast}}
