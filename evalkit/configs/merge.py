"""Inheritance and overrides: one config file and its parents become one mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.configs.catalog import ConfigCatalog, ConfigKind
from evalkit.configs.yamlfile import Document, KeyPath, Place, load_yaml, parse_yaml
from evalkit.core.errors import ConfigError


@dataclass(frozen=True)
class Override:
    """`key.inner=value` of `--set`; `target` limits it to one config."""

    path: KeyPath
    value: Any
    target: str = ""


def load_merged(file: Path, catalog: ConfigCatalog, kind: ConfigKind, overrides: Sequence[Override] = ()) -> Document:
    """The file merged over its parents, then the overrides: mappings merge, the rest replaces, null removes."""
    chain = [load_yaml(file)]
    while (base := chain[-1].data.get("base")) is not None:
        here = chain[-1]
        parent = catalog.find_base(base, here.file, kind) if isinstance(base, str) else None
        if parent is None:
            raise ConfigError(
                f"{here.place(('base',))}: base {base!r} not found", "a file beside this one, or a config's name"
            )
        if any(parent == d.file for d in chain):
            raise ConfigError(f"{here.place(('base',))}: base {base!r} leads back to this file", "break the circle")
        chain.append(load_yaml(parent))
    data: dict[str, Any] = {}
    places: dict[KeyPath, Place] = {}
    for document in reversed(chain):
        own = {k: v for k, v in document.data.items() if k != "base"}
        data = merged(data, own)
        places |= document.places
    for override in overrides:
        if override.target in ("", file.stem):
            data = merged(data, _nested(override.path, override.value))
            places[override.path] = Place(Path("--set"), 1)
    return Document(file, data, places)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        elif isinstance(value, Mapping):
            result[key] = merged({}, value)
        else:
            result[key] = value
    return result


def _nested(path: KeyPath, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def parse_override(text: str) -> tuple[bool, Override]:
    """(is it for models?, the override) from `[model.][name:]key.inner=value`; the value is YAML."""
    left, sign, right = text.partition("=")
    if not sign or not left.strip():
        raise ConfigError(
            f"--set {text!r} is not key=value", "for example --set gen.max_out_len=256 or --set model.dtype=float32"
        )
    target, _, key = left.strip().rpartition(":")
    for_model = key.startswith("model.")
    value = parse_yaml(f"value: {right}", Path("--set")).data.get("value")
    return for_model, Override(tuple(key.removeprefix("model.").split(".")), value, target)
