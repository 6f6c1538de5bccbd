"""What a command line, or a call of `evaluate`, asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.records import Kind


@dataclass(frozen=True)
class RunOptions:
    """Everything that a user says about what is run; how it is run is the session's."""

    models: tuple[str, ...] = ()
    """Names and globs of model configs, and `recorded:PATH`."""
    datasets: tuple[str, ...] = ()
    """Names, globs and families of dataset configs, each with `:SUBSET,…` where only a part is asked for."""
    hf_paths: tuple[str, ...] = ()
    """Checkpoints without a config."""
    recorded_field: str = ""
    """The field of recorded outputs that holds the text; empty: the usual ones."""
    kind: Kind | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    """Keys of a model config, applied to every model."""
    overrides: tuple[str, ...] = ()
    """`KEY=VALUE` of `--set`."""
    draws: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `gen` for all benchmarks that generate: `num_samples`, `temperature`."""
    data_root: str | None = None
    tokenizer: str | None = None
    """Counts the lengths of long-context prompts in place of the model's own."""
    config_dirs: tuple[str, ...] = ()
    limit: int | None = None
    """Only the first rows of every subset."""
    sample: int | None = None
    """Only so many random rows of every subset."""
    seed: int = 0
    """Of `sample` and of sampled generation."""


def default_data_root() -> str | None:
    """The data root of the environment."""
    return os.environ.get("EVALKIT_DATA") or None
