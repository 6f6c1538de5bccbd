"""A lasting interpreter: cell after cell in one namespace, the last expression's value shown."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import signal
import sys
import traceback
from typing import Any

from .candidate import SEED, NoInput, described
from .codec import Wire

CELL = "<cell>"


def run(wire: Wire, output: int) -> None:
    """Execute cells until the owner hangs up. What they print goes to `output`; answers are exceptions.

    An answer is ["ok", null] or ["raise", built-in exception, text, traceback].
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell's background job starts ignores it
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdin = NoInput()
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    random.seed(SEED)
    scope: dict[str, Any] = {"__name__": "__main__"}
    while True:
        answer = _executed(wire.receive()[1], scope)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        wire.send(answer)


def _executed(source: str, scope: dict[str, Any]) -> list[Any]:
    try:
        tree = ast.parse(source, CELL)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, CELL, "exec"), scope)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), CELL, "eval"), scope)
            if value is not None:
                print(repr(value))
    except BaseException as error:
        trace = ""
        with contextlib.suppress(BaseException):
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            trace = traceback.format_exc()
        return [*described(error), trace[-4000:]]
    return ["ok", None]
