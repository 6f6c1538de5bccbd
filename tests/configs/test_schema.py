"""What may stand in a config follows from the records, and so do the tables of docs/configs.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evalkit.configs import schema
from evalkit.configs.benchmark import build, config_hash, from_resolved
from evalkit.configs.yamlfile import parse_yaml
from evalkit.core.config_records import (
    DERIVED,
    UNHASHED,
    Benchmark,
    GridSpec,
    ModelSpec,
    NamedCall,
    SubsetSpec,
    SummarizerFile,
    TurnTemplate,
)
from evalkit.core.errors import ConfigError
from tools import config_keys

CONFIG = """mode: gen
data: {path: rows, split: {dev: validation}, slice: [null, 9], build: needle}
fields: {question: q}
shots:
  turns: shots.jsonl
  fetch: {url: "https://example.org/x"}
prompt:
  - shots
  - user: "{{ question }}"
gen: {stop: ["a", "b"], temperature: 1}
extract: [last_number, {before: x}]
metric: {pass_at_k: {k: [1]}}
contrast: paired_loss
subsets:
  easy: [one, two: {kind: x}]
  hard: [two: {kind: x}]
parts:
  kind:
    x: {labels: [A]}
"""


def built(text: str) -> Benchmark:
    document = parse_yaml(text, Path("my_own.yaml"))
    schema.check(document, Benchmark)
    return build(document)


def test_values_become_those_of_the_record() -> None:
    made = built(CONFIG)
    assert made.data.split == {"dev": "validation"} and made.data.slice == (None, 9)
    assert made.data.build == NamedCall("needle") and made.contrast == NamedCall("paired_loss")
    assert made.shots is not None and made.shots.fetch is not None and made.shots.fetch.convert == "none"
    assert made.prompt == (TurnTemplate("shots", ""), TurnTemplate("user", "{{ question }}"))
    assert made.gen.stop == ("a", "b") and made.extract[1].name == "before" and made.quirks == frozenset()
    assert [m.name for m in made.members] == ["one", "two"] and made.groups[0].members == ("one", "two")
    assert made.part({"kind": "x"}).labels == ("A",) and (made.family, made.row) == ("my", "my")
    assert from_resolved("my_own", made.resolved, "my_own.yaml") == made


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mode: gen", "mode: gn", "my_own.yaml:1: mode: 'gn' is not ppl, ll or gen"),
        ("mode: gen\n", "", "my_own.yaml:1: the key 'mode' is missing"),
        ("slice: [null, 9]", "slice: [9]", "my_own.yaml:2: data.slice: [9] is not a list of 2"),
        ("slice: [null, 9]", "slice: [x, 9]", "my_own.yaml:2: data.slice.0: 'x' is not a whole number or null"),
        ("  turns:", "  turn:", "my_own.yaml:5: shots.turn: unknown key 'turn'"),
        ("  - user:", "  - person:", "my_own.yaml:9: prompt.1.person: unknown key 'person'"),
        ('  - user: "{{ question }}"', "  - {user: a, assistant: b}", "my_own.yaml:9: prompt.1: 2 keys, not one of"),
        ("temperature: 1", "temperature: hot", "my_own.yaml:10: gen.temperature: 'hot' is not a number"),
        ("  hard: [two: {kind: x}]", "  hard: [{two: {}, three: {}}]", "my_own.yaml:14: two, three in one entry"),
        ("x: {labels: [A]}", "x: {average: none}", "my_own.yaml:19: parts.kind.x.average: unknown key 'average'"),
        ("x: {labels: [A]}", "x: {gen: {top: 1}}", "my_own.yaml:19: parts.kind.x.gen.top: unknown key 'top'"),
        ("contrast: paired_loss", "grid: {axes: {n: [1]}}", "my_own.yaml:13: grid: the key 'name' is missing"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(old: str, new: str, message: str) -> None:
    assert old in CONFIG
    with pytest.raises(ConfigError) as caught:
        built(CONFIG.replace(old, new, 1))
    assert str(caught.value).startswith(message) and caught.value.hint


def test_a_manifest_of_a_later_version_is_refused_with_the_key() -> None:
    with pytest.raises(ConfigError, match="unknown key 'later'"):
        from_resolved("my_own", {**built(CONFIG).resolved, "later": 1}, "my_own.yaml")


@pytest.mark.parametrize("field", schema.key_fields(Benchmark), ids=lambda field: field.name)
def test_every_key_is_hashed_unless_it_says_otherwise(field: Any) -> None:
    data = built(CONFIG).resolved
    assert (config_hash({**data, field.name: "other"}) == config_hash(data)) is bool(field.metadata.get("unhashed"))


def test_inner_keys_that_are_not_hashed() -> None:
    data: Mapping[str, Any] = built(CONFIG).resolved
    for key, value in (("data", {"newlines": "text_mode"}), ("shots", {"fetch": {"url": "elsewhere"}})):
        assert config_hash({**data, key: {**data[key], **value}}) == config_hash(data)
    assert config_hash({**data, "shots": {**data["shots"], "sha256": "0"}}) == config_hash(data, exemplars="0")
    assert config_hash(data, exemplars="0") != config_hash(data)


def test_parts_may_change_the_keys_of_a_subset_alone() -> None:
    parts = schema.keys_of(Benchmark).keys["parts"]
    assert parts == schema.Free(schema.Free(schema.keys_of(SubsetSpec, partial=True)))
    assert schema.keys_of(SubsetSpec).needed == schema.keys_of(Benchmark).needed == ("mode", "data", "prompt", "metric")
    assert schema.keys_of(GridSpec).needed == ("name", "axes") and schema.keys_of(ModelSpec).needed == ("path", "kind")


def test_a_type_that_no_config_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="no type of a config's value"):
        schema.shape_of(set[str])


def test_the_tables_of_the_docs_are_those_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_keys.main(["--check"]) == 0, "run python -m tools.config_keys"
    text = config_keys.FILE.read_text(encoding="utf-8")
    records = [match[2] for match in config_keys.TABLE.finditer(text)]
    assert records == ["Benchmark", "DataSpec", "ShotSpec", "GenSpec", "ModelSpec", "SummarizerFile", "RowBinding"]
    copy = tmp_path / "configs.md"
    copy.write_text(text.replace("| `labels` |", "| `label` |"), encoding="utf-8")
    monkeypatch.setattr(config_keys, "FILE", copy)
    assert config_keys.main(["--check"]) == 1
    assert config_keys.main([]) == 0 and copy.read_text(encoding="utf-8") == text


def test_a_key_without_a_text_has_no_table() -> None:
    assert set(config_keys.field_texts(SummarizerFile)) == {f.name for f in dataclasses.fields(SummarizerFile)}
    assert DERIVED.keys().isdisjoint(UNHASHED)
    with pytest.raises(KeyError, match="label"):
        config_keys.table(Unexplained)


@dataclasses.dataclass(frozen=True)
class Unexplained:
    label: str
