"""From a model config, or a bare checkpoint path, to a `ModelSpec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.configs import schema
from evalkit.configs.library import Library
from evalkit.configs.merge import Override, load_merged, merged
from evalkit.configs.yamlfile import Document
from evalkit.errors import ConfigError
from evalkit.types import Kind, ModelSpec

TABLE_ONLY = ("size", "licence")


def load_model_config(file: Path, library: Library, overrides: Sequence[Override] = ()) -> ModelSpec:
    """Read, merge and check one model config."""
    document = load_merged(file, library, "model_configs", overrides)
    schema.check(document, schema.MODEL)
    return build_model(document)


def build_model(document: Document) -> ModelSpec:
    """The record of a checked document."""
    data = document.data
    for key in ("path", "kind"):
        if key not in data:
            raise ConfigError(f"{document.file}:1: the key {key!r} is missing", "see docs/configs.md")
    return model_from(document.file.stem, data, str(document.file))


def model_from(name: str, data: Mapping[str, Any], source: str = "") -> ModelSpec:
    """A ModelSpec of checked values; also rebuilds one that a manifest keeps."""
    values = {key: value for key, value in data.items() if key not in TABLE_ONLY}
    values["end_strings"] = tuple(values.get("end_strings", ()))
    return ModelSpec(name=name, source=source, resolved=data, **values)


def model_from_path(path: str, kind: Kind, overrides: Sequence[Override], options: Mapping[str, Any]) -> ModelSpec:
    """The model of `--hf-path`: named after the last part of the path."""
    name = Path(path.rstrip("/")).name or path
    data: dict[str, Any] = {"path": path, "kind": kind, **options}
    for override in overrides:
        value: Any = override.value
        for key in reversed(override.path):
            value = {key: value}
        data = merged(data, value)
    schema.check(Document(Path("--set model"), data), schema.MODEL)
    return model_from(name, data, "--hf-path")
