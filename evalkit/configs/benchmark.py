"""From a merged dataset config to a `Benchmark`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.configs import schema
from evalkit.configs.catalog import ConfigCatalog, expand, unknown
from evalkit.configs.merge import Override, load_merged, merged
from evalkit.configs.yamlfile import Document, Place, load_yaml
from evalkit.core import template
from evalkit.core.digest import digest
from evalkit.core.errors import ConfigError
from evalkit.core.records import Benchmark, Golds, Group, Member

JUDGING = ("llm_judge", "alpaca_eval")
"""Metrics whose `prompt` may be the name of a file."""
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
    document = replace(document, data=_with_judge_prompts(document.data, document, catalog))
    schema.check(document, Benchmark)
    return build(document), document


def _with_judge_prompts(value: Any, document: Document, catalog: ConfigCatalog) -> Any:
    """The values with the prompts that metrics of judges name by their files in place of the names.

    They decide scores, so the hash and the manifest hold them whole.
    """
    if isinstance(value, list):
        return [_with_judge_prompts(item, document, catalog) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _with_judge_prompts(item, document, catalog) for key, item in value.items()}
    for name in JUDGING:
        judge = made.get(name)
        if not isinstance(judge, dict) or not isinstance(judge.get("prompt"), str):
            continue
        file = catalog.find_base(judge["prompt"], document.file, "dataset_configs")
        if file is None:
            raise ConfigError(
                f"{document.file}: there is no judge prompt {judge['prompt']!r}",
                "a file with `system` and `user` beside the config, its name beginning with `_`",
            )
        made[name] = {**judge, "prompt": load_yaml(file).data}
    return made


def build(document: Document) -> Benchmark:
    """The record of a checked document."""
    data = document.data
    family = data.get("family", document.file.stem.split("_")[0])
    row = data.get("row", family)
    members, groups = _members(data, row, document)
    part_key, parts = _parts(document)
    return schema.build(
        Benchmark,
        {**{key: value for key, value in data.items() if key != "parts"}, "family": family, "row": row},
        name=document.file.stem,
        hash=config_hash(data),
        members=members,
        groups=groups,
        parts=parts,
        part_key=part_key,
        resolved=data,
        source=str(document.file),
    )


def _parts(document: Document) -> tuple[str, dict[str, Benchmark]]:
    """(the variable that `parts` goes by, value -> the benchmark of the config overridden by that part)."""
    listed = document.data.get("parts") or {}
    if not listed:
        return "", {}
    if len(listed) > 1:
        raise ConfigError(f"{document.place(('parts',))}: parts go by one variable, not {', '.join(listed)}", PARTS)
    key, parts = next(iter(listed.items()))
    whole = {k: v for k, v in document.data.items() if k != "parts"}
    return key, {str(value): build(Document(document.file, _part(whole, part))) for value, part in parts.items()}


def _part(whole: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The config overridden by a part; a part that is scored by log-probabilities has nothing to extract from."""
    data = merged(whole, part)
    if data.get("mode") != "gen" and "extract" not in part:
        data.pop("extract", None)
    return data


def from_resolved(name: str, resolved: Mapping[str, Any], source: str, hash_: str = "") -> Benchmark:
    """Rebuild a benchmark from the mapping that a manifest keeps; ConfigError where another version's keys differ."""
    document = Document(Path(source).parent / f"{name}.yaml", dict(resolved))
    schema.check(document, Benchmark)
    benchmark = build(document)
    return replace(benchmark, hash=hash_ or benchmark.hash)


def config_hash(data: Mapping[str, Any], exemplars: str = "") -> str:
    """Digest of all that decides prompts and scores; `exemplars` is the digest of the file in use."""
    kept = _hashed(data, Benchmark)
    if exemplars and isinstance(kept.get("shots"), Mapping):
        kept["shots"] = {**kept["shots"], "sha256": exemplars}
    return digest(kept)


def _hashed(data: Mapping[str, Any], record: type) -> dict[str, Any]:
    """The values without those of `unhashed` keys, at every depth of records."""
    left_out = {field.name for field in schema.key_fields(record) if field.metadata.get("unhashed")}
    kept = {key: value for key, value in data.items() if key not in left_out}
    for key, value in kept.items():
        inner = schema.record_of(schema.hints_of(record).get(key))
        if inner is not None and isinstance(value, Mapping):
            kept[key] = _hashed(value, inner)
    return kept


def with_exemplars(benchmark: Benchmark, sha256: str) -> Benchmark:
    """The benchmark with the hash that the exemplar file in use gives it."""
    return replace(benchmark, hash=config_hash(benchmark.resolved, sha256)) if sha256 else benchmark


def with_golds(benchmark: Benchmark, golds: Golds) -> Benchmark:
    """The benchmark, in all its parts, with this rule for golds that its metric cannot use."""
    parts = {value: replace(part, golds=golds) for value, part in benchmark.parts.items()}
    return replace(benchmark, golds=golds, parts=parts)


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


def count_cells(data: Mapping[str, Any]) -> int | None:
    """Subsets of a config whose subsets are a grid; None for other configs."""
    axes = axes_of(data)
    return math.prod(map(len, axes.values())) if axes else None


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
    where = document.place(("subsets",))
    for group, entries in listed.items():
        names = []
        for entry in entries:
            member = _member(entry, where)
            if members.setdefault(member.name, member) != member and member.variables:
                raise ConfigError(f"{where}: subset {member.name!r} has two sets of variables", "give them once")
            names.append(member.name)
        if group:
            groups.append(Group(group, tuple(names)))
    return tuple(members.values()), tuple(groups)


def _member(entry: Any, where: Place) -> Member:
    if isinstance(entry, str):
        return Member(entry)
    if len(entry) != 1:
        raise ConfigError(f"{where}: {', '.join(entry)} in one entry of the list", "one subset an entry")
    name, variables = next(iter(entry.items()))
    return Member(name, dict(variables))


def _grid(name: str, axes: Mapping[str, Sequence[Any]], more: Mapping[str, Any]) -> tuple[Member, ...]:
    made = []
    for values in itertools.product(*axes.values()):
        variables = dict(zip(axes, values, strict=True))
        made.append(Member(template.render(name, variables, "grid name"), {**variables, **more}))
    return tuple(made)
