"""YAML 1.2 as configs use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.configs.yamlfile import parse_yaml
from evalkit.core.errors import ConfigError

FILE = Path("x.yaml")


def test_values_and_places() -> None:
    document = parse_yaml('a: yes\nb: {c: 1, d: [1.5, null, true]}\ne: "007"\n', FILE)
    assert document.data == {"a": "yes", "b": {"c": 1, "d": [1.5, None, True]}, "e": "007"}
    assert str(document.place(("b", "c"))) == "x.yaml:2"
    assert str(document.place(("b", "unknown", "deeper"))) == "x.yaml:2"
    assert str(document.place(("e",))) == "x.yaml:3"


def test_empty_file_is_an_empty_mapping() -> None:
    assert parse_yaml("# nothing\n", FILE).data == {}


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 007", 1, "quotes"),
        ("a: 1\nb: 2024-05-28", 2, "quotes"),
        ("a: 1_000", 1, "quotes"),
        ("a: 1\na: 2", 2, "twice"),
        ("a: [1", 1, "broken YAML"),
        ("a: 1\n  b: 2", 2, "broken YAML"),
        ("- a\n- b", 1, "mapping"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, "base"),
    ],
)
def test_doubtful_yaml_names_its_line(text: str, line: int, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, FILE)
    assert f"x.yaml:{line}" in caught.value.message
    assert part in str(caught.value)


def test_folded_texts_are_plain_text() -> None:
    text = "a: >-\n  one\n  two\n\n  three\nb: >\n  one\n  two\nc: |\n  one\n  two\n"
    data = parse_yaml(text, Path("x.yaml")).data
    assert data == {"a": "one two\nthree", "b": "one two\n", "c": "one\ntwo\n"}
