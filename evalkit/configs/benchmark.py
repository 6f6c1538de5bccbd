"""From a merged dataset config to a `Benchmark`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.configs import schema
from evalkit.configs.catalog import ConfigCatalog, expand, unknown
from evalkit.configs.merge import Override, load_merged, merged
from evalkit.configs.yamlfile import Document
from evalkit.core import template
from evalkit.core.calls import parse_calls
from evalkit.core.digest import digest
from evalkit.core.errors import ConfigError
from evalkit.core.records import (
    Benchmark,
    DataSpec,
    GenSpec,
    Group,
    Member,
    NamedCall,
    ShotSpec,
    Template,
    TurnTemplate,
)

COSMETIC = ("description", "notes", "defaults", "row", "family")
"""Keys that decide neither a prompt nor a score."""
GRID_NAME = "L{{ length }}{% if depth is defined %}D{{ depth }}{% endif %}"
"""Names of subsets by `data.lengths` and `data.depths`, where the config gives no others."""
PARTS = "parts: {VARIABLE: {VALUE: {mode: gen, …}}}, where VARIABLE is one of the subsets' variables"


def read_benchmark(
    file: Path, catalog: ConfigCatalog, overrides: Sequence[Override] = ()
) -> tuple[Benchmark, Document]:
    """Read, merge and build one dataset config; with the document, which knows the line of every key.

    Keys and shapes are checked here; names and templates by `plan/check.py`.
    """
    document = load_merged(file, catalog, "dataset_configs", overrides)
    schema.check(document, schema.BENCHMARK)
    return build(document), document


def build(document: Document) -> Benchmark:
    """The record of a checked document."""
    data = document.data
    for key in ("mode", "prompt", "metric", "data"):
        if key not in data:
            raise ConfigError(f"{document.file}:1: the key {key!r} is missing", "see docs/configs.md")
    name = document.file.stem
    family = data.get("family", name.split("_")[0])
    row = data.get("row", family)
    members, groups = _members(data, row, document)
    part_key, parts = _parts(document)
    return Benchmark(
        name=name,
        hash=config_hash(data),
        mode=data["mode"],
        data=_data(data["data"]),
        fields=dict(data.get("fields", {})),
        gold=data.get("gold", ""),
        where=data.get("where", ""),
        members=members,
        groups=groups,
        average=_call(data.get("average", "mean")),
        prompt=_template(data["prompt"]),
        shots=_shots(data.get("shots")),
        labels=tuple(data.get("labels", ())),
        continuation=data.get("continuation", ""),
        gen=_gen(data.get("gen", {})),
        extract=parse_calls(data.get("extract", [])),
        metric=_call(data["metric"]),
        quirks=frozenset(data.get("quirks", ())),
        family=family,
        row=row,
        notes=data.get("notes", ""),
        resolved=data,
        source=str(document.file),
        part_key=part_key,
        parts=parts,
        contrast=_call(data["contrast"]) if "contrast" in data else None,
    )


def _parts(document: Document) -> tuple[str, dict[str, Benchmark]]:
    """(the variable that `parts` goes by, value -> the benchmark of the config with that part laid on it)."""
    listed = document.data.get("parts") or {}
    if not listed:
        return "", {}
    if len(listed) > 1:
        raise ConfigError(f"{document.place(('parts',))}: parts go by one variable, not {', '.join(listed)}", PARTS)
    key, parts = next(iter(listed.items()))
    whole = {k: v for k, v in document.data.items() if k != "parts"}
    return key, {str(value): build(Document(document.file, _part(whole, part))) for value, part in parts.items()}


def _part(whole: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The config with a part laid on it; a part that is scored by log-probabilities has nothing to extract from."""
    data = merged(whole, part)
    if data.get("mode") != "gen" and "extract" not in part:
        data.pop("extract", None)
    return data


def from_resolved(name: str, resolved: Mapping[str, Any], source: str, hash_: str = "") -> Benchmark:
    """Rebuild a benchmark from the mapping that a manifest keeps."""
    benchmark = build(Document(Path(source).parent / f"{name}.yaml", dict(resolved)))
    return replace(benchmark, hash=hash_ or benchmark.hash)


def config_hash(data: Mapping[str, Any], exemplars: str = "") -> str:
    """Digest of all that decides prompts and scores; `exemplars` is the digest of the file in use."""
    kept = {key: value for key, value in data.items() if key not in COSMETIC}
    if isinstance(kept.get("data"), Mapping):  # how rows are read is in the fingerprint of the rows
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "newlines"}
    if isinstance(kept.get("shots"), Mapping):
        shots = {key: value for key, value in kept["shots"].items() if key != "fetch"}
        if exemplars:
            shots["sha256"] = exemplars
        kept["shots"] = shots
    return digest(kept)


def with_exemplars(benchmark: Benchmark, sha256: str) -> Benchmark:
    """The benchmark with the hash that the exemplar file in use gives it."""
    return replace(benchmark, hash=config_hash(benchmark.resolved, sha256)) if sha256 else benchmark


def select(benchmark: Benchmark, patterns: Sequence[str]) -> Benchmark:
    """Only the subsets that some pattern matches; ConfigError when one matches none.

    Groups keep their full membership, so an average over a part is flagged as such.
    """
    known = [m.name for m in benchmark.members]
    bad = [p for p in patterns if not expand(p, known)]
    if bad:
        raise unknown(f"subset of {benchmark.name}", bad, known)
    chosen = {name for p in patterns for name in expand(p, known)}
    return replace(benchmark, members=tuple(m for m in benchmark.members if m.name in chosen))


def axes_of(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Axis -> values of a config whose subsets are a grid; empty for other configs.

    `data.lengths` (tokens) and `data.depths` (percent) are such axes. Where a `grid` without depths is given, all
    depths are together in each of its subsets, as the variable `depths`.
    """
    spec = data.get("data", {})
    axes: dict[str, list[Any]] = dict(data["grid"]["axes"]) if "grid" in data else {}
    if "lengths" in spec:
        axes["length"] = list(spec["lengths"])
    if "depths" in spec and ("depth" in axes or "grid" not in data):
        axes["depth"] = list(spec["depths"])
    return axes


def _check_axes(document: Document) -> None:
    """ConfigError for lengths and depths that cannot be."""
    spec = document.data.get("data", {})
    for key, fits, what in (
        ("lengths", lambda n: n > 0, "lengths are tokens, at least 1"),
        ("depths", lambda n: 0 <= n <= 100, "depths are percent, 0 to 100"),
    ):
        values = spec.get(key)
        if values is None:
            continue
        place = f"{document.place(('data', key))}: data.{key}"
        if "grid" in document.data and "length" not in document.data["grid"]["axes"]:
            raise ConfigError(
                f"{place}: the subsets are no lengths", f"the axes are {', '.join(axes_of(document.data))}"
            )
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"{place} is {values}", "give each value once")
        bad = [value for value in values if not fits(value)]
        if bad:
            raise ConfigError(f"{place}: {bad[0]} is impossible", what)


def _members(data: Mapping[str, Any], row: str, document: Document) -> tuple[tuple[Member, ...], tuple[Group, ...]]:
    _check_axes(document)
    if axes := axes_of(data):
        together = {} if "depth" in axes else {"depths": data["data"].get("depths")}
        name = data["grid"]["name"] if "grid" in data else GRID_NAME
        return _grid(name, axes, {key: value for key, value in together.items() if value}), ()
    subsets = data.get("subsets")
    if subsets is None:
        return (Member(row),), ()
    listed = {"": subsets} if isinstance(subsets, list) else subsets
    members: dict[str, Member] = {}
    groups = []
    for group, entries in listed.items():
        names = []
        for entry in entries:
            member = _member(entry)
            if members.setdefault(member.name, member) != member and member.variables:
                where = document.place(("subsets",))
                raise ConfigError(f"{where}: subset {member.name!r} has two sets of variables", "give them once")
            names.append(member.name)
        if group:
            groups.append(Group(group, tuple(names)))
    return tuple(members.values()), tuple(groups)


def _member(entry: Any) -> Member:
    if isinstance(entry, str):
        return Member(entry)
    name, variables = next(iter(entry.items()))
    return Member(name, dict(variables))


def _grid(name: str, axes: Mapping[str, Sequence[Any]], more: Mapping[str, Any]) -> tuple[Member, ...]:
    made = []
    for values in itertools.product(*axes.values()):
        variables = dict(zip(axes, values, strict=True))
        made.append(Member(template.render(name, variables, "grid name"), {**variables, **more}))
    return tuple(made)


def _data(data: Mapping[str, Any]) -> DataSpec:
    values = {key: value for key, value in data.items() if key not in ("lengths", "depths")}
    if "extra_files" in values:
        values["extra_files"] = tuple(values["extra_files"])
    if "slice" in values:
        first, last = values["slice"]
        values["slice"] = (first, last)
    if "build" in values:
        values["build"] = _call(values["build"])
    return DataSpec(**values)


def _gen(gen: Mapping[str, Any]) -> GenSpec:
    return GenSpec(**{**gen, "stop": tuple(gen.get("stop", ()))})


def _shots(shots: Mapping[str, Any] | None) -> ShotSpec | None:
    if not shots:
        return None
    values = {key: value for key, value in shots.items() if key != "fetch"}
    values["template"] = _template(values.get("template", ""))
    if "rows" in values:
        values["rows"] = tuple(values["rows"])
    return ShotSpec(**values)


def _call(value: Any) -> NamedCall:
    return parse_calls([value])[0]


def _template(value: Any) -> Template:
    if isinstance(value, str):
        return value
    return tuple(_turn(part) for part in value)


def _turn(part: Any) -> TurnTemplate:
    if part == "shots":
        return TurnTemplate("shots", "")
    role, source = next(iter(part.items()))
    return TurnTemplate(role, source)
