"""Inheritance and overrides: one config file and its parents become one mapping."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.configs.catalog import ConfigCatalog, ConfigKind
from evalkit.configs.yamlfile import Document, KeyPath, Place, load_yaml, parse_yaml
from evalkit.core.errors import ConfigError
from evalkit.core.registry import did_you_mean

SET = Path("--set")
"""The place of an override, in errors."""


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
            places[override.path] = Place(SET, 1)
    return Document(file, data, places)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` overridden by `over`."""
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
    """(is it for models?, the override) from `[model.][name:]key.inner=value`.

    The name may also stand first, as in `NAME:model.key=value`. The value is YAML where it is a number,
    true, false, null, a quoted text, a list or a mapping; any other text is taken as it stands.
    """
    left, sign, right = text.partition("=")
    key = left.strip()
    if not sign or not key:
        raise ConfigError(
            f"--set {text!r} is not key=value", "for example --set gen.max_out_len=256 or --set model.dtype=float32"
        )
    for_model = key.startswith("model.")
    target, _, key = key.removeprefix("model.").rpartition(":")
    for_model = for_model or key.startswith("model.")
    path = tuple(key.removeprefix("model.").split("."))
    if not all(path):
        raise ConfigError(f"--set {text!r} has an empty key", "for example --set gen.max_out_len=256")
    return for_model, Override(path, _override_value(right), target)


NO_YAML = re.compile(r"^[#&*!|>%@`]|^[-?](\s|$)|^\{[{%#]|\s#|:\s|:$|[\r\n]")
"""Plain text of which YAML would make something else: a comment, a mapping, a tag, folded lines."""


def _override_value(right: str) -> Any:
    """The value of an override, nothing of it cut off; ConfigError when quotes or brackets do not match."""
    text = right.strip()
    if text[:1] not in ("'", '"', "[", "{") or text.startswith(("{{", "{%", "{#")):
        return text if NO_YAML.search(text) else parse_yaml(f"value: {text}", SET).data.get("value")
    items = parse_yaml(f"value: [{text}\n ]", SET).data["value"]
    if len(items) != 1 or parse_yaml(f"value: {text}", SET).data["value"] != items[0] or _has_comment(text):
        raise ConfigError(f"--set: {text!r} is not one value", "quote the whole text, or none of it")
    return items[0]


def _has_comment(text: str) -> bool:
    """Whether YAML would drop the end of a quoted text, list or mapping: then no bracket can follow on its line."""
    try:
        parse_yaml(f"value: [{text}]", SET)
    except ConfigError:
        return True
    return False


def check_targets(overrides: Iterable[Override], names: Collection[str], what: str) -> None:
    """ConfigError, with near matches, when `--set NAME:…` names what is not run."""
    for override in overrides:
        if override.target and override.target not in names:
            hint = did_you_mean(override.target, names) or f"run: {', '.join(names)}"
            raise ConfigError(f"--set names the {what} {override.target!r}, which is not run", hint)
