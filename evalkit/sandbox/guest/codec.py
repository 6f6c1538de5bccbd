"""Plain values as JSON, and messages of them over a socket.

Between the tests and a candidate travel values, never code: the reader builds every object itself, from
types that are listed here, so no method of the writer's ever runs on the reader's side. What is not
plain travels as a reference (`refer`), whose number means something to its owner only.
"""

from __future__ import annotations

import collections
import datetime
import json
import re
import socket
import struct
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MESSAGE_BYTES = 64 << 20
"""Longest message that is read."""
MOST_NODES = 1_000_000
"""Most values in a message, those in values counted: what rebuilding costs depends on their number."""
MOST_LEVELS = 200
"""How deep values may be nested."""
MOST_STEPS = 10_000_000
"""Length of a range that is passed as one: what is done with a longer one may never end."""
MOST_DIGITS = 4300
"""Of a Decimal or Fraction, as of an int that Python reads."""
MOST_EXPONENT = 100_000
"""Of a Decimal, up or down: `int` of it has as many digits."""
CHUNK_BYTES = 1 << 16
TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
COLLIDING = 100
"""Keys that may have the same hash, on the average."""
SMALL_INT = 1 << 53
PLAIN = (type(None), bool, str, float)
DATES: dict[type, tuple[str, ...]] = {
    datetime.datetime: ("year", "month", "day", "hour", "minute", "second", "microsecond"),
    datetime.date: ("year", "month", "day"),
    datetime.time: ("hour", "minute", "second", "microsecond"),
    datetime.timedelta: ("days", "seconds", "microseconds"),
}
VIEWS: dict[type, str] = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}
SEQUENCES: dict[type, str] = {t: t.__name__ for t in (tuple, set, frozenset, collections.deque)}
MAPPINGS: dict[type, str] = {dict: "dict", collections.OrderedDict: "OrderedDict", collections.Counter: "Counter"}
TEXTUAL: dict[type, str] = {Decimal: "Decimal", Fraction: "Fraction"}


def _spread(kind: Callable[..., Any]) -> Callable[[Any], Any]:
    """Make a `kind` of a list of arguments."""
    return lambda parts: kind(*parts)


def _view(name: str) -> Callable[[Any], Any]:
    """Make a dict's keys, values or items of pairs."""
    return lambda pairs: getattr(dict(pairs), name)()


def _integer(digits: str) -> int:
    """An int of hexadecimal digits, which cost no more than their number."""
    return int(digits, 16)


def _decimal(text: str) -> Decimal:
    if len(text) > MOST_DIGITS:
        raise TooLarge("a number of too many digits")
    number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > MOST_EXPONENT:
        raise TooLarge("a number with too large an exponent")
    return number


def _fraction(text: str) -> Fraction:
    """Of `numerator` or `numerator/denominator`; `1e9999999999` would be written out."""
    if len(text) > 2 * MOST_DIGITS or not re.fullmatch(r"-?[0-9]+(/[0-9]+)?", text):
        raise ValueError("not a fraction")
    return Fraction(text)


def _spread_keys(keys: list[Any]) -> None:
    """TooLarge for many keys of one hash, whose set or dict takes the square of their number."""
    if len(keys) > COLLIDING and len({hash(key) for key in keys}) < len(keys) // COLLIDING:
        raise TooLarge("too many keys of one hash")


def _short(steps: range) -> bool:
    try:
        return len(steps) <= MOST_STEPS
    except OverflowError:
        return False


def _range(parts: list[int]) -> range:
    steps = range(*parts)
    if not _short(steps):
        raise TooLarge("a range that is too long")
    return steps


BUILDERS: dict[str, Callable[[Any], Any]] = {
    **{name: kind for kind, name in (*SEQUENCES.items(), *MAPPINGS.items())},
    "Decimal": _decimal,
    "Fraction": _fraction,
    **{kind.__name__: _spread(kind) for kind in (*DATES, complex, slice)},
    "range": _range,
    "int": _integer,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "ellipsis": lambda _: Ellipsis,
    "iterator": iter,
    **{name: _view(name) for name in VIEWS.values()},
}  # fmt: skip


KEYED = frozenset({"set", "frozenset", *MAPPINGS.values()})


class Closed(Exception):
    """The other side is gone, or does not keep to the form of messages."""


class TooLarge(Closed):
    """A value that costs more to build than one may."""


class Unplain(Exception):
    """A value that has no plain form."""


def encode(value: Any, refer: Callable[[Any], Any]) -> Any:
    """The JSON form of a value; `refer` gives that of a value without a plain one, or raises Unplain.

    An instance of a subclass of a plain type counts as the plain value that it holds. RecursionError
    for a value nested too deeply, such as one that holds itself.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is int:
        return value if -SMALL_INT < value < SMALL_INT else {"int": hex(value)}
    if kind is list:
        return [encode(item, refer) for item in value]
    if kind in SEQUENCES:
        return {SEQUENCES[kind]: [encode(item, refer) for item in value]}
    if kind in MAPPINGS:
        return {MAPPINGS[kind]: [[encode(k, refer), encode(v, refer)] for k, v in value.items()]}
    return _encode_rare(value, kind, refer)


def _encode_rare(value: Any, kind: type, refer: Callable[[Any], Any]) -> Any:
    if kind in (bytes, bytearray):
        return {kind.__name__: value.hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if kind is slice or (kind is range and _short(value)):
        return {kind.__name__: [encode(part, refer) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": None}
    if kind in TEXTUAL:
        return {TEXTUAL[kind]: str(value)}
    if kind in DATES and getattr(value, "tzinfo", None) is None:
        return {kind.__name__: [getattr(value, field) for field in DATES[kind]]}
    if kind in VIEWS:
        return _encode_view(value, VIEWS[kind], refer)
    if kind.__module__ == "numpy":
        return _encode_numpy(value, refer)
    return _encode_base(value, refer)


def _encode_view(view: Any, name: str, refer: Callable[[Any], Any]) -> Any:
    if name == "keys":
        pairs = [(key, None) for key in view]
    else:
        pairs = list(view) if name == "items" else list(enumerate(view))
    return {name: [[encode(k, refer), encode(v, refer)] for k, v in pairs]}


def _encode_numpy(value: Any, refer: Callable[[Any], Any]) -> Any:
    """Numbers, texts and arrays of them, with their exact type."""
    numpy = sys.modules["numpy"]
    if isinstance(value, (numpy.generic, numpy.ndarray)) and value.dtype.kind in "biufcU":
        return {"numpy": [value.dtype.str, list(value.shape), encode(value.reshape(-1).tolist(), refer)]}
    return refer(value)


def _encode_base(value: Any, refer: Callable[[Any], Any]) -> Any:
    """The plain value that an instance of a subclass holds."""
    if isinstance(value, int):
        return encode(int.__add__(value, 0), refer)
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, str):
        return str.__str__(value)
    collection: Any
    for collection in (list, tuple, set, frozenset):
        if isinstance(value, collection):
            return encode(collection(collection.__iter__(value)), refer)
    for collection in (collections.Counter, collections.OrderedDict, dict):
        if isinstance(value, collection):
            return {MAPPINGS[collection]: [[encode(k, refer), encode(v, refer)] for k, v in dict.items(value)]}
    return refer(value)


def decode(form: Any, resolve: Callable[[Any], Any], level: int = 0) -> Any:
    """The value of a JSON form; `resolve` gives what a reference stands for.

    Closed for no such form, and for one that is nested deeper or costs more to build than a value may.
    """
    if level > MOST_LEVELS:
        raise TooLarge("a value is nested too deeply")
    if isinstance(form, list):
        return [decode(item, resolve, level + 1) for item in form]
    if not isinstance(form, dict):
        return form
    try:
        ((name, inner),) = form.items()
        if name == "ref":
            return resolve(inner)
        if name == "numpy":
            return _decode_numpy(*inner)
        if name in ("int", "bytes", "bytearray", "Decimal", "Fraction", "complex", "ellipsis"):
            return BUILDERS[name](inner)
        built = decode(inner, resolve, level + 1)
        if name in KEYED:
            _spread_keys([key for key, _ in built] if name in MAPPINGS.values() else built)
        return BUILDERS[name](dict(built) if name == "Counter" else built)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise Closed(f"not a value: {error}") from error


def _decode_numpy(kind: str, shape: list[int], items: Any) -> Any:
    import numpy

    dtype = numpy.dtype(kind)
    if dtype.kind not in "biufcU":
        raise ValueError(kind)
    if dtype.itemsize * len(items) > MESSAGE_BYTES:
        raise TooLarge("an array that is too large")
    array = numpy.array(decode(items, _refuse), dtype=dtype)
    return array.reshape(shape) if shape else dtype.type(array[0])


def _refuse(reference: Any) -> Any:
    raise ValueError(reference)


def bounded(body: bytes) -> bytes:
    """The message, unless it holds more values than may be: they are counted before any is built."""
    if _nodes(body) > MOST_NODES and _nodes(TEXTS.sub(b"", body)) > MOST_NODES:
        raise TooLarge("a value of too many parts")
    return body


def _nodes(body: bytes) -> int:
    """At least how many values there are, commas in texts counted too."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


class Wire:
    """Messages over a stream socket: four bytes of length, then JSON."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.unread = bytearray()

    def send(self, form: Any) -> None:
        """Send a JSON form; Closed when nobody is there, ValueError when it is too long."""
        body = json.dumps(form, separators=(",", ":")).encode()
        if len(body) > MESSAGE_BYTES:
            raise ValueError(f"a value of {len(body)} bytes is too large to be passed")
        try:
            self.end.sendall(struct.pack("!I", len(body)) + body)
        except OSError as error:
            raise Closed("gone") from error

    def receive(self) -> Any:
        """The next JSON form; Closed at the end, and for what is none."""
        (length,) = struct.unpack("!I", self._read(4))
        if length > MESSAGE_BYTES:
            raise Closed("a message is too long")
        try:
            return json.loads(bounded(self._read(length)))
        except (ValueError, RecursionError) as error:
            raise Closed("not a message") from error

    def _read(self, count: int) -> bytes:
        while len(self.unread) < count:
            try:
                chunk = self.end.recv(max(count - len(self.unread), CHUNK_BYTES))
            except OSError as error:
                raise Closed("gone") from error
            if not chunk:
                raise Closed("gone")
            self.unread += chunk
        taken = bytes(self.unread[:count])
        del self.unread[:count]
        return taken
