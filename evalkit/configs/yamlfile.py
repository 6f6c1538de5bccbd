"""Reads one YAML 1.2 file into plain values, remembering the line of every key.

ruamel's own constructors turn `2024-05-28` into a date and `007` into 7; here a scalar is a
string, an int, a float, a bool or null and everything doubtful is an error that names its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, first_line
from evalkit.core.jsontext import SURROGATE
from evalkit.core.limits import Limited, OverLimit

KeyPath = tuple[str, ...]
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INT = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER_TAGS = ("int", "float", "timestamp")


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Document:
    """A parsed file: its values and where each key stands."""

    file: Path
    data: dict[str, Any]
    places: Mapping[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath) -> Place:
        """Where `path`, or its nearest known parent, stands."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.file, 1))


MOST_CHARACTERS = 200_000
"""Of a config file; those that ship have at most a few thousand."""
MOST_VALUES = 50_000
"""Of a config, aliases followed."""
MOST_LEVELS = 60
DEEP = re.compile(rf"([\[{{]\s*){{{MOST_LEVELS + 1}}}")
LARGEST = 1 << 63
PLAIN_TAGS = ("None", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def load_yaml(file: Path) -> Document:
    """Parse `file`; ConfigError with file and line when it is not proper YAML.

    A family's base is read once for all its configs; a document is never changed.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"cannot read {file}: it is no file", "configs are files named *.yaml")
        return _load(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error}", "check the file and its permissions") from error


@lru_cache(maxsize=1024)
def _load(file: Path, changed: int) -> Document:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {file}: {error}", "check the file and its encoding (UTF-8)") from error
    return parse_yaml(text, file)


def parse_yaml(text: str, file: Path) -> Document:
    """Parse `text` as if it were `file`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{file}: {len(text)} characters", f"a config has at most {MOST_CHARACTERS}")
    if deep := DEEP.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        raise ConfigError(f"{file}:{line}: nested more than {MOST_LEVELS} levels deep", "write it in smaller parts")
    try:
        with Limited():
            root = YAML(pure=True).compose(text)
    except ReaderError as error:
        where = f"{file}:{text.count(chr(10), 0, error.position) + 1}"
        raise ConfigError(f"{where}: the character {error.character!r} has no place in YAML", "remove it") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = str(error.problem or error.context)
        hint = "quote text that holds ': ', '#', '{' or '[', and indent by spaces"
        raise ConfigError(f"{where}: broken YAML: {problem}", hint) from error
    except (YAMLError, OverLimit, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        why = first_line(error) or type(error).__name__
        raise ConfigError(f"{file}: broken YAML: {why}", "is it nested very deeply?") from error
    places: dict[KeyPath, Place] = {}
    data = {} if root is None else _build(root, (), places, file)
    if not isinstance(data, dict):
        raise ConfigError(f"{file}:1: a config is a mapping of keys to values", "see docs/configs.md")
    return Document(file, data, places)


def _build(node: Any, path: KeyPath, places: dict[KeyPath, Place], file: Path) -> Any:
    """The plain value of a YAML node; fills `places` on the way."""
    line = node.start_mark.line + 1
    if len(path) > MOST_LEVELS:
        raise ConfigError(f"{file}:{line}: nested more than {MOST_LEVELS} levels deep", "does an alias hold itself?")
    if len(places) > MOST_VALUES:
        raise ConfigError(f"{file}:{line}: more than {MOST_VALUES} values", "aliases multiply what they stand for")
    if node.id != "scalar" and str(node.tag) not in PLAIN_TAGS:
        raise ConfigError(f"{file}:{line}: unknown YAML tag {str(node.tag)[:60]!r}", "write plain lists and mappings")
    if node.id == "mapping":
        return _build_mapping(node, path, places, file)
    if node.id == "sequence":
        items = []
        for i, item in enumerate(node.value):
            inner = (*path, str(i))
            places[inner] = Place(file, item.start_mark.line + 1)
            items.append(_build(item, inner, places, file))
        return items
    return _scalar(node, Place(file, node.start_mark.line + 1))


def _build_mapping(node: Any, path: KeyPath, places: dict[KeyPath, Place], file: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = Place(file, key_node.start_mark.line + 1)
        if key_node.id != "scalar" or key_node.value == "<<":
            raise ConfigError(f"{place}: a key must be plain text", "use `base:` to inherit from another file")
        key = _proper(key_node.value, place)
        if key in result:
            raise ConfigError(f"{place}: key {key!r} stands here twice", "remove one of the two")
        places[(*path, key)] = place
        result[key] = _build(value_node, (*path, key), places, file)
    return result


def _scalar(node: Any, place: Place) -> Any:
    tag = str(node.tag).rsplit(":", 1)[-1]
    text: str = node.value
    if node.style == ">":  # ruamel.yaml marks where a folded text was broken, so as to write it alike
        text = text.replace("\a", "")
    if tag == "str":
        return _proper(text, place)
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int" and INT.fullmatch(text):
        if len(text) > 20 or not -LARGEST <= int(text) < LARGEST:
            raise ConfigError(f"{place}: {text[:20]}… is too large a number", "write it in quotes if it is text")
        return int(text)
    if tag == "float" and FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if tag in NUMBER_TAGS:
        raise ConfigError(f"{place}: {text[:60]!r} would be read as a {tag}", f'write "{text[:60]}" in quotes')
    raise ConfigError(f"{place}: unknown YAML tag {tag!r}", "use plain text, numbers, true/false and null")


def _proper(text: str, place: Place) -> str:
    """The text; ConfigError for one that no file and no terminal can hold."""
    if "\0" in text or (not text.isascii() and SURROGATE.search(text)):
        raise ConfigError(f"{place}: {text[:60]!r} holds a NUL or half of a character", "remove it")
    return text
