"""What may stand in a config, and the check that names file, line and nearest key.

All of it follows from the fields of `core/config_records.py`: a new key is a new field there.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from evalkit.configs.yamlfile import Document, KeyPath
from evalkit.core.calls import parse_calls
from evalkit.core.config_records import NamedCall, TurnTemplate
from evalkit.core.errors import ConfigError
from evalkit.core.registry import did_you_mean

T = TypeVar("T")
SEE_DOCS = "see docs/configs.md"


@dataclass(frozen=True)
class Leaf:
    """A scalar of one of some types."""

    what: str
    types: tuple[type, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """A mapping with known keys, some of which must be given."""

    keys: Mapping[str, Shape]
    needed: tuple[str, ...] = ()
    one: bool = False
    """Whether exactly one of them stands in it."""


@dataclass(frozen=True)
class Free:
    """A mapping with any keys."""

    value: Shape


@dataclass(frozen=True)
class Items:
    """A list, of a given length or of any."""

    item: Shape
    size: int | None = None


@dataclass(frozen=True)
class Either:
    """One of several shapes; the first whose outer type fits is checked further."""

    shapes: tuple[Shape, ...]


Shape = Leaf | Keys | Free | Items | Either

TEXT = Leaf("text", (str,))
ANY = Leaf("a value", (str, int, float, bool, list, dict))
SCALARS: Mapping[Any, Leaf] = {
    str: TEXT,
    int: Leaf("a whole number", (int,)),
    float: Leaf("a number", (int, float)),
    bool: Leaf("true or false", (bool,)),
    Any: ANY,
}
ROLES = Keys(dict.fromkeys(("system", "user", "assistant"), TEXT), one=True)
TURN = Either((Leaf("the word shots", (str,), ("shots",)), ROLES))
CALL = Either((TEXT, Free(ANY)))


@lru_cache(maxsize=64)
def hints_of(record: Hashable) -> Mapping[str, Any]:
    """The types of a record's fields."""
    return get_type_hints(record)


@lru_cache(maxsize=64)
def keys_of(record: type, partial: bool = False) -> Keys:
    """The keys of a config that is read into `record`; with `partial` none of them must be given."""
    fields = key_fields(record)
    needed = () if partial else tuple(field.name for field in fields if is_needed(field))
    return Keys({field.name: _shape_of_field(record, field) for field in fields}, needed)


def key_fields(record: type) -> list[dataclasses.Field[Any]]:
    """The fields of a record that are keys of its file."""
    return [field for field in dataclasses.fields(record) if not field.metadata.get("derived")]


def is_needed(field: dataclasses.Field[Any]) -> bool:
    """Whether the key must be given: its field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _shape_of_field(record: type, field: dataclasses.Field[Any]) -> Shape:
    parts_of = field.metadata.get("parts_of")
    return Free(Free(keys_of(parts_of, partial=True))) if parts_of else shape_of(hints_of(record)[field.name])


def record_of(hint: Any) -> type | None:
    """The record that a mapping under a key of this type is read into; None where it is no record."""
    for one in (hint, *get_args(hint)):
        if dataclasses.is_dataclass(one) and isinstance(one, type) and one not in (NamedCall, TurnTemplate):
            return one
    return None


def shape_of(hint: Any) -> Shape:
    """What may stand in a file for a value of this type. A type that no config can hold is a TypeError."""
    if hint in SCALARS:
        return SCALARS[hint]
    if hint is NamedCall:
        return CALL
    if hint is TurnTemplate:
        return TURN
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return keys_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        *first, last = arguments
        return Leaf(f"{', '.join(first)} or {last}" if first else last, (str,), arguments)
    if origin in (Union, types.UnionType):
        shapes = tuple(shape_of(a) for a in arguments if a is not type(None))  # null takes a key away
        return shapes[0] if len(shapes) == 1 else Either(shapes)
    if origin in (tuple, frozenset):
        if Ellipsis in arguments or origin is frozenset:
            return Items(shape_of(arguments[0]))
        return Items(_or_null(arguments[0]), len(arguments))
    if origin is collections.abc.Mapping:
        return Free(shape_of(arguments[1]))
    raise TypeError(f"{hint!r} is no type of a config's value")


def _or_null(hint: Any) -> Shape:
    """The shape of an item of a list, where null is a value of its own."""
    shape = shape_of(hint)
    if type(None) in get_args(hint) and isinstance(shape, Leaf):
        return Leaf(f"{shape.what} or null", (*shape.types, type(None)))
    return shape


def build(record: type[T], data: Mapping[str, Any], **derived: Any) -> T:
    """The record of checked values: lists as tuples, calls and templates as their records; `derived` as given."""
    hints = get_type_hints(record)
    return record(**{key: _converted(value, hints[key]) for key, value in data.items()}, **derived)


def _converted(value: Any, hint: Any) -> Any:
    """A YAML value as a value of type `hint`."""
    if hint is NamedCall:
        return parse_calls([value])[0]
    if hint is TurnTemplate:
        return _turn(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _converted(value, _member_for(value, arguments))
    if origin is frozenset:
        return frozenset(value)
    if origin is tuple:
        item = arguments[0]
        return tuple(_converted(v, item) for v in value)
    if origin is collections.abc.Mapping:
        return {name: _converted(v, arguments[1]) for name, v in value.items()}
    return value


def _member_for(value: Any, hints: Sequence[Any]) -> Any:
    """The member of a union that a checked value belongs to."""
    if value is None:
        return Any
    members = [hint for hint in hints if hint is not type(None)]
    if len(members) == 1:
        return members[0]
    outer = collections.abc.Mapping if isinstance(value, Mapping) else tuple
    is_scalar = not isinstance(value, (Mapping, list, tuple))
    return Any if is_scalar else next(hint for hint in members if get_origin(hint) is outer)


def _turn(part: Any) -> TurnTemplate:
    if part == "shots":
        return TurnTemplate("shots", "")
    role, source = next(iter(part.items()))
    return TurnTemplate(role, source)


def check(document: Document, record: type) -> None:
    """ConfigError at the first key or value that does not fit the record."""
    _check(document.data, keys_of(record), (), document)


def _check(value: Any, spec: Any, path: KeyPath, document: Document) -> None:
    if isinstance(spec, Either):
        spec = _fitting(value, spec, path, document)
    if isinstance(spec, Leaf):
        _check_leaf(value, spec, path, document)
    elif isinstance(spec, Items):
        _expect(value, list, "a list", path, document)
        if spec.size is not None and len(value) != spec.size:
            raise _error(f"{value!r} is not a list of {spec.size}", path, document, SEE_DOCS)
        for i, item in enumerate(value):
            _check(item, spec.item, (*path, str(i)), document)
    elif isinstance(spec, Free):
        _expect(value, dict, "a mapping", path, document)
        for key, item in value.items():
            _check(item, spec.value, (*path, key), document)
    else:
        _expect(value, dict, "a mapping", path, document)
        for key, item in value.items():
            if key not in spec.keys:
                raise _error(f"unknown key {key!r}", (*path, key), document, did_you_mean(key, spec.keys))
            _check(item, spec.keys[key], (*path, key), document)
        for key in spec.needed:
            if key not in value:
                raise _error(f"the key {key!r} is missing", path, document, SEE_DOCS)
        if spec.one and len(value) != 1:
            raise _error(f"{len(value)} keys, not one of {', '.join(spec.keys)}", path, document, SEE_DOCS)


def _check_leaf(value: Any, spec: Leaf, path: KeyPath, document: Document) -> None:
    is_bool = isinstance(value, bool) and bool not in spec.types  # a bool is an int to Python
    if is_bool or not isinstance(value, spec.types):
        hint = f'write "{value}" in quotes' if str in spec.types and not isinstance(value, (list, dict)) else ""
        raise _error(f"{value!r} is not {spec.what}", path, document, hint)
    if spec.choices and value not in spec.choices:
        raise _error(f"{value!r} is not {spec.what}", path, document, did_you_mean(str(value), spec.choices))


def _fitting(value: Any, spec: Either, path: KeyPath, document: Document) -> Any:
    for shape in spec.shapes:
        if isinstance(shape, Leaf) and isinstance(value, shape.types) and not isinstance(value, bool):
            return shape
        if isinstance(shape, Items) and isinstance(value, list):
            return shape
        if isinstance(shape, (Free, Keys)) and isinstance(value, dict):
            return shape
    raise _error(f"{value!r} has the wrong shape", path, document, SEE_DOCS)


def _expect(value: Any, kind: type, what: str, path: KeyPath, document: Document) -> None:
    if not isinstance(value, kind):
        raise _error(f"{value!r} is not {what}", path, document, SEE_DOCS)


def _error(problem: str, path: KeyPath, document: Document, hint: str) -> ConfigError:
    where = f"{document.place(path)}: {'.'.join(path)}" if path else f"{document.file}:1"
    return ConfigError(f"{where}: {problem}", hint or SEE_DOCS)
