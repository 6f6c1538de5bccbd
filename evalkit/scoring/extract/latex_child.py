"""The process behind `latex.py`: reads `[operation, text]` a line and answers with the value as JSON.

It never executes what a model wrote: a printed formula is walked as a syntax tree, in which only arithmetic
and the listed functions have a value.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import operator
import os
import resource
import signal
import sys
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from evalkit.scoring.extract.latex import EVALUATE, MEMORY, NUMBER, READY, SECONDS

Parser = Callable[[str], Any]

NOTHING: Mapping[str, Any] = {}
MATHEMATICS: Mapping[str, Any] = {
    "sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "log": math.log, "pi": math.pi, "e": math.e, "E": 2.718,
    "factorial": math.factorial, "exp": math.exp,
}  # fmt: skip
"""What the published rule has in scope when it compares numbers; its E has no more digits."""
BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.BitXor: operator.xor,
    ast.BitOr: operator.or_, ast.BitAnd: operator.and_, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
}  # fmt: skip
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip


class NoValueError(Exception):
    """A text that has no value, for whatever reason."""


def value_of(source: str, names: Mapping[str, Any]) -> Any:
    """What Python gives for an expression of numbers, operators, lists and `names`; NoValueError otherwise."""
    try:
        return _value(ast.parse(source.strip(" \t"), mode="eval").body, names)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError, RecursionError) as error:
        raise NoValueError from error


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=op, operand=operand):
            return UNARY[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right):
            return BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=ops, comparators=others):
            values = [_value(part, names) for part in (left, *others)]
            return all(COMPARISONS[type(op)](*values[i : i + 2]) for i, op in enumerate(ops))
        case ast.List(elts=parts):
            return [_value(part, names) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_value(part, names) for part in parts)
        case ast.Set(elts=parts):
            return {_value(part, names) for part in parts}
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]):
            return names[name](*[_value(part, names) for part in parts])
    raise NoValueError


def evaluated(text: str, parse: Parser) -> str | None:
    """The printed value of a formula."""
    try:
        return str(value_of(_printed(text, parse), NOTHING))
    except (NoValueError, ValueError):  # ValueError: a whole number of more digits than Python prints
        return None


def number(text: str, parse: Parser) -> int | float | None:
    """The number that a formula gives; a text that is no formula is taken for a Python expression."""
    with contextlib.suppress(NoValueError):
        text = _printed(text, parse)
    found = _as_number(text)
    if found is not None:
        return found
    try:
        value = value_of(text, MATHEMATICS)
    except NoValueError:
        return None
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return _as_number(value)


def _as_number(value: Any) -> int | float | None:
    """A float, or an int where it is whole; None for what is no number."""
    try:
        result = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return round(result) if result.is_integer() else result


def _printed(text: str, parse: Parser) -> str:
    try:
        return str(parse(text))
    except Exception as error:  # the parser raises bare Exceptions, and sympy whatever it meets
        raise NoValueError from error


def _parser() -> Parser:
    # The generated parser imports `typing.io`, which Python 3.13 dropped; only TextIO is taken from it.
    sys.modules.setdefault("typing.io", typing)
    warnings.simplefilter("ignore")
    from latex2sympy2 import latex2sympy

    parse: Parser = latex2sympy
    return parse


def main() -> None:
    """Answer until the input ends. SIGPROF, which the timer sends, ends the process: that is its default."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # parsers print; answers must stand alone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        parse = _parser()
    except ImportError as error:
        print(error, file=answers)
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print(READY, file=answers)
    operations: Mapping[str, Callable[[str, Parser], Any]] = {EVALUATE: evaluated, NUMBER: number}
    for line in sys.stdin:
        operation, text = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        answer = operations[operation](text, parse)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), file=answers)
