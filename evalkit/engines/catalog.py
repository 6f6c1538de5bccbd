"""Makes the engine that a model config names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from evalkit.core.errors import ConfigError
from evalkit.core.records import ModelSpec
from evalkit.core.registry import did_you_mean
from evalkit.engines.base import Engine
from evalkit.engines.options import check_options, check_packages


def create_engine(spec: ModelSpec) -> Engine:
    """The loaded engine for `spec.engine`.

    Raises ConfigError for an unknown engine or option, ModelError when the model cannot be loaded.
    """
    if spec.engine not in ENGINES:
        raise ConfigError(f"unknown engine {spec.engine!r} of model {spec.name}", did_you_mean(spec.engine, ENGINES))
    check_options(spec)
    check_packages(spec)
    return ENGINES[spec.engine](spec)


def _hf(spec: ModelSpec) -> Engine:
    from evalkit.engines.hf.engine import HFEngine

    return HFEngine(spec)


def _vllm(spec: ModelSpec) -> Engine:
    from evalkit.engines.external.vllm import make_engine

    return make_engine(spec)


def _lmdeploy(spec: ModelSpec) -> Engine:
    from evalkit.engines.external.lmdeploy import make_engine

    return make_engine(spec)


def _openai_api(spec: ModelSpec) -> Engine:
    from evalkit.engines.openai_api.engine import APIEngine

    return APIEngine(spec)


def _fake(spec: ModelSpec) -> Engine:
    from evalkit.engines.fake import FakeEngine

    return FakeEngine(spec)


ENGINES: Mapping[str, Callable[[ModelSpec], Engine]] = MappingProxyType(
    {"hf": _hf, "vllm": _vllm, "lmdeploy": _lmdeploy, "openai_api": _openai_api, "fake": _fake}
)
"""Engine names; each factory imports its engine only when it is called."""
