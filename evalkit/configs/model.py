"""From a model config, or a bare checkpoint path, to a `ModelSpec`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit.configs import schema
from evalkit.configs.catalog import ConfigCatalog
from evalkit.configs.merge import Override, load_merged, merged
from evalkit.configs.yamlfile import Document
from evalkit.core.errors import ConfigError
from evalkit.core.packages import package_path
from evalkit.core.records import Kind, ModelSpec

IN_PACKAGE = re.compile(r"[A-Za-z_]\w+:[\w./-]+")


def load_model_config(file: Path, catalog: ConfigCatalog, overrides: Sequence[Override] = ()) -> ModelSpec:
    """Read, merge and check one model config."""
    document = load_merged(file, catalog, "model_configs", overrides)
    schema.check(document, ModelSpec)
    return build_model(document)


def build_model(document: Document) -> ModelSpec:
    """The record of a checked document."""
    return model_from(document.file.stem, document.data, str(document.file))


def model_from(name: str, data: Mapping[str, Any], source: str = "") -> ModelSpec:
    """A ModelSpec of checked values; also rebuilds one that a manifest keeps.

    Raises ConfigError for values that contradict each other.
    """
    values = {**data, "path": place_of(str(data["path"]))}
    spec = schema.build(ModelSpec, values, name=name, source=source, resolved=data)
    if spec.reasoning is not None and not spec.reasoning.close:
        raise ConfigError(f"{name}: reasoning.close is empty", 'name what ends the thinking, such as "</think>"')
    for key in ("system_prompt", "chat_template"):
        if spec.kind == "base" and getattr(spec, key):
            raise ConfigError(
                f"{name}: {key} is given, but a base model gets plain text", "kind: chat, or leave it out"
            )
    return spec


def place_of(path: str) -> str:
    """The folder that `module:path` names inside an installed package; every other path as it is."""
    found = package_path(path) if IN_PACKAGE.fullmatch(path) else None
    return str(found) if found else path


def model_from_path(path: str, kind: Kind, overrides: Sequence[Override], options: Mapping[str, Any]) -> ModelSpec:
    """The model of `--hf-path`: named after the last part of the path, and of the adapter's where it has one."""
    data = laid_on({"path": path, "kind": kind, **options}, [o for o in overrides if not o.target])
    name = "+".join(_last_part(p) for p in (path, data.get("peft_path", "")) if p)
    return model_from(name, laid_on(data, [o for o in overrides if o.target == name]), "--hf-path")


def _last_part(path: str) -> str:
    """The last part of a path; `.` and `..` are named after the folder that they stand for."""
    name = Path(path.rstrip("/")).name
    return (Path(os.path.realpath(os.path.expanduser(path))).name if name in ("", ".", "..") else name) or path


def changed(spec: ModelSpec, overrides: Sequence[Override], options: Mapping[str, Any]) -> ModelSpec:
    """`spec` with overrides and a command's model options on what it was made from; ConfigError as in a file."""
    own = [o for o in overrides if o.target in ("", spec.name)]
    if not own and not options:
        return spec
    return model_from(spec.name, laid_on({**spec.resolved, **options}, own), spec.source)


def laid_on(data: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """The values with overrides on them, checked."""
    result = dict(data)
    for override in overrides:
        value: Any = override.value
        for key in reversed(override.path):
            value = {key: value}
        result = merged(result, value)
    schema.check(Document(Path("--set model"), result), ModelSpec)
    return result
