"""From the names of a command line to config files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.configs.catalog import ConfigCatalog, expand, is_glob, only_file, unknown
from evalkit.configs.yamlfile import load_yaml
from evalkit.core.errors import ConfigError
from evalkit.core.records import Kind

APART = ("contamination", "agent")
"""Configs with one of these in their names assess what a model was trained on, or need tools: `gsm8k*` leaves them out,
`*contamination*` and `*agent*` do not."""


@dataclass(frozen=True)
class DatasetChoice:
    """A config and the subsets of it that were asked for (none: all)."""

    name: str
    file: Path
    subsets: tuple[str, ...] = ()


def resolve_datasets(names: Sequence[str], kind: Kind, catalog: ConfigCatalog) -> list[DatasetChoice]:
    """The configs that names, globs and families stand for, for a model of this kind.

    `mmlu` is the family's default for the kind, `mmlu_ppl` the only config that begins so,
    `NAME:a,b*` a choice of subsets. A config that is named several times is run with all the subsets
    named, and whole when one of the names has no subsets. All unknown names are reported at once.
    """
    files = catalog.files("dataset_configs")
    families = catalog.families()
    bad: list[str] = []
    chosen: dict[str, DatasetChoice] = {}
    for entry in names:
        name, _, part = entry.partition(":")
        found = _configs_of(name, kind, files, families)
        if not found:
            bad.append(name)
        subsets = tuple(filter(None, (subset.strip() for subset in part.split(","))))
        for config in found:
            choice = DatasetChoice(config, only_file(config, files[config]), subsets)
            chosen[config] = united(chosen[config], choice) if config in chosen else choice
    if bad:
        raise unknown("dataset", bad, [*files, *families])
    return list(chosen.values())


def united(one: DatasetChoice, other: DatasetChoice) -> DatasetChoice:
    """Two choices of one config: the subsets of both, or all when either asks for all."""
    if not one.subsets or not other.subsets:
        return replace(one, subsets=())
    return replace(one, subsets=tuple(dict.fromkeys((*one.subsets, *other.subsets))))


def resolve_models(names: Sequence[str], catalog: ConfigCatalog) -> list[tuple[str, Path]]:
    """The model configs that names and globs stand for; all unknown names at once."""
    files = catalog.files("model_configs")
    bad: list[str] = []
    chosen: dict[str, Path] = {}
    for name in names:
        found = expand(name, files) if is_glob(name) else [n for n in files if n == name]
        if not found:
            bad.append(name)
        for config in found:
            chosen.setdefault(config, only_file(config, files[config]))
    if bad:
        raise unknown("model", bad, files)
    return list(chosen.items())


def _configs_of(name: str, kind: Kind, files: dict[str, list[Path]], families: dict[str, Path]) -> list[str]:
    if is_glob(name):
        return [n for n in expand(name, files) if all(mark in name or mark not in n for mark in APART)]
    if name in files:
        return [name]
    if name in families:
        default = family_defaults(families[name]).get(kind)
        if default in files:
            return [str(default)]
    begun = [config for config in files if config.startswith(name + "_")]
    if len(begun) > 1:
        raise ConfigError(
            f"the name {name!r} is ambiguous: {', '.join(begun)}", "give one of these names, or a glob for all of them"
        )
    return begun


def family_defaults(base: Path) -> dict[str, str]:
    """kind -> config name, from a family's base file."""
    defaults = load_yaml(base).data.get("defaults", {})
    return dict(defaults) if isinstance(defaults, dict) else {}


def gen_sibling(choice: DatasetChoice, family: str, catalog: ConfigCatalog) -> DatasetChoice | None:
    """The family's config for chat models in place of `choice`, with the same subsets; None when there is none."""
    files, families = catalog.files("dataset_configs"), catalog.families()
    name = family_defaults(families[family]).get("chat", "") if family in families else ""
    return DatasetChoice(name, only_file(name, files[name]), choice.subsets) if name in files else None
