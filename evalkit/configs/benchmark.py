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
from evalkit.configs.yamlfile import Document, load_yaml
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

JUDGING = ("llm_judge", "alpaca_eval")
"""Metrics whose `prompt` may be the name of a file."""
COSMETIC = ("description", "notes", "defaults", "row", "family")
"""Keys that decide neither a prompt nor a score."""
PARTS = "parts: {VARIABLE: {VALUE: {mode: gen, …}}}, where VARIABLE is one of the subsets' variables"


def read_benchmark(
    file: Path, catalog: ConfigCatalog, overrides: Sequence[Override] = ()
) -> tuple[Benchmark, Document]:
    """Read, merge and build one dataset config; with the document, which knows the line of every key.

    Keys and shapes are checked here; names and templates by `plan/check.py`.
    """
    document = load_merged(file, catalog, "dataset_configs", overrides)
    document = replace(document, data=_with_judge_prompts(document.data, document, catalog))
    schema.check(document, schema.BENCHMARK)
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
        solver=_call(data["solver"]) if "solver" in data else None,
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


def _members(data: Mapping[str, Any], row: str, document: Document) -> tuple[tuple[Member, ...], tuple[Group, ...]]:
    if "grid" in data:
        return _grid(data["grid"]), ()
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


def _grid(grid: Mapping[str, Any]) -> tuple[Member, ...]:
    axes = grid["axes"]
    made = []
    for values in itertools.product(*axes.values()):
        variables = dict(zip(axes, values, strict=True))
        made.append(Member(template.render(grid["name"], variables, "grid name"), variables))
    return tuple(made)


def _data(data: Mapping[str, Any]) -> DataSpec:
    values = dict(data)
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
