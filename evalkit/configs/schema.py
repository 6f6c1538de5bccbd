"""What may stand in a config, and the check that names file, line and nearest key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.configs.yamlfile import Document, KeyPath
from evalkit.core.errors import ConfigError
from evalkit.core.registry import did_you_mean


@dataclass(frozen=True)
class Leaf:
    """A scalar of one of some types."""

    what: str
    types: tuple[type, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """A mapping with known keys."""

    keys: Mapping[str, Any]


@dataclass(frozen=True)
class Free:
    """A mapping with any keys."""

    value: Any


@dataclass(frozen=True)
class Items:
    """A list."""

    item: Any


@dataclass(frozen=True)
class Either:
    """One of several shapes; the first whose outer type fits is checked further."""

    shapes: tuple[Any, ...]


TEXT = Leaf("text", (str,))
INT = Leaf("a whole number", (int,))
NUMBER = Leaf("a number", (int, float))
FLAG = Leaf("true or false", (bool,))
ANY = Leaf("a value", (str, int, float, bool, list, dict))
TEXTS = Items(TEXT)
MAYBE_INT = Leaf("a whole number or null", (int, type(None)))
TURN = Either((Leaf("the word shots", (str,), ("shots",)), Keys({"system": TEXT, "user": TEXT, "assistant": TEXT})))
TEMPLATE = Either((TEXT, Items(TURN)))
CALL = Either((TEXT, Free(ANY)))
MEMBERS = Items(Either((TEXT, Free(Free(ANY)))))

DATA = {
    "path": TEXT,
    "config": TEXT,
    "file": TEXT,
    "key": TEXT,
    "split": Either((TEXT, Free(TEXT))),
    "slice": Items(MAYBE_INT),
    "package": TEXT,
    "build": CALL,
    "extra_files": TEXTS,
    "lengths": Items(INT),
    "depths": Items(NUMBER),
    "revision": TEXT,
    "optional": TEXT,
    "newlines": Leaf("kept or text_mode", (str,), ("kept", "text_mode")),
}
SHOTS = {
    "split": TEXT,
    "rows": Items(INT),
    "file": TEXT,
    "turns": TEXT,
    "text": TEXT,
    "skip_lines": INT,
    "sha256": TEXT,
    "count": INT,
    "fields": Free(TEXT),
    "gold": TEXT,
    "template": TEMPLATE,
    "join": TEXT,
    "end": TEXT,
    "fetch": Keys({"url": TEXT, "convert": TEXT, "sha256": TEXT}),
}
GEN = {
    "max_out_len": INT,
    "stop": TEXTS,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": INT,
    "num_samples": INT,
}
GRID = {"name": TEXT, "axes": Free(Items(ANY))}
MODE = Leaf("ppl, ll or gen", (str,), ("ppl", "ll", "gen"))
PART = Keys(
    {
        "mode": MODE,
        "data": Keys(DATA),
        "fields": Free(TEXT),
        "where": TEXT,
        "gold": TEXT,
        "prompt": TEMPLATE,
        "labels": TEXTS,
        "continuation": TEXT,
        "gen": Keys(GEN),
        "extract": Items(CALL),
        "metric": CALL,
        "quirks": TEXTS,
    }
)
"""What may differ between the subsets of a benchmark."""
BENCHMARK = Keys(
    {
        "family": TEXT,
        "row": TEXT,
        "defaults": Keys({"base": TEXT, "chat": TEXT}),
        "notes": TEXT,
        "description": TEXT,
        "mode": MODE,
        "data": Keys(DATA),
        "fields": Free(TEXT),
        "where": TEXT,
        "gold": TEXT,
        "subsets": Either((MEMBERS, Free(MEMBERS))),
        "grid": Keys(GRID),
        "average": CALL,
        "shots": Keys(SHOTS),
        "prompt": TEMPLATE,
        "labels": TEXTS,
        "continuation": TEXT,
        "gen": Keys(GEN),
        "extract": Items(CALL),
        "metric": CALL,
        "quirks": TEXTS,
        "parts": Free(Free(PART)),
        "contrast": CALL,
    }
)
MODEL = Keys(
    {
        "path": TEXT,
        "kind": Leaf("base or chat", (str,), ("base", "chat")),
        "engine": TEXT,
        "dtype": TEXT,
        "device": TEXT,
        "gpus": INT,
        "max_seq_len": INT,
        "max_new_tokens": INT,
        "batch_tokens": INT,
        "end_strings": TEXTS,
        "system_prompt": TEXT,
        "chat_template": TEXT,
        "reasoning": Keys({"open": TEXT, "close": TEXT, "budget": INT}),
        "needs_remote_code": FLAG,
        "trust_remote_code": FLAG,
        "revision": TEXT,
        "peft_path": TEXT,
        "attn_implementation": TEXT,
        "options": Free(ANY),
        "notes": TEXT,
        "verified": TEXT,
        "size": TEXT,
        "context": INT,
        "licence": TEXT,
    }
)
SUMMARIZER = Keys(
    {
        "title": TEXT,
        "rows": Items(Either((TEXT, Free(TEXT)))),
        "reference": TEXT,
        "decimals": INT,
        "notes": TEXT,
        "tolerance": NUMBER,
    }
)


def check(document: Document, schema: Keys) -> None:
    """ConfigError at the first key or value that does not fit."""
    _check(document.data, schema, (), document)


def _check(value: Any, spec: Any, path: KeyPath, document: Document) -> None:
    if isinstance(spec, Either):
        spec = _fitting(value, spec, path, document)
    if isinstance(spec, Leaf):
        _check_leaf(value, spec, path, document)
    elif isinstance(spec, Items):
        _expect(value, list, "a list", path, document)
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
    raise _error(f"{value!r} has the wrong shape", path, document, "see docs/configs.md")


def _expect(value: Any, kind: type, what: str, path: KeyPath, document: Document) -> None:
    if not isinstance(value, kind):
        raise _error(f"{value!r} is not {what}", path, document, "see docs/configs.md")


def _error(problem: str, path: KeyPath, document: Document, hint: str) -> ConfigError:
    key = ".".join(path)
    return ConfigError(f"{document.place(path)}: {key}: {problem}", hint or "see docs/configs.md")
