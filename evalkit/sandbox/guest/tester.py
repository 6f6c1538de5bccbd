"""The trusted side: runs a program's tests. No code of the program ever runs in this process.

What the tests call is a stand-in that passes plain values to the program's process and builds the
answer from plain values. Comparing, counting and asserting happen here, with this side's own types.
"""

from __future__ import annotations

import ast
import builtins
import collections
import copy
import importlib
import itertools
import json
import random
import socket
import sys
from collections.abc import Iterator
from typing import Any

from .candidate import BUILTIN_EXCEPTIONS, SEED, described
from .codec import Closed, TooLarge, Unplain, Wire, decode, encode
from .orders import LOST, received, text_of

OWN_MODULES = frozenset({
    "bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools",
    "json", "math", "numpy", "operator", "random", "re", "statistics", "string", "sys", "typing",
})  # fmt: skip
"""Modules that tests get from their own side, when the program has imported them under whatever name."""
MUTABLE = (list, dict, set, bytearray, collections.deque)
SILENT = {"StopIteration", "StopAsyncIteration", "GeneratorExit"}
"""Would end a loop of the tests without a word; raised as RuntimeError."""


class Remote:
    """A value that stays in the program's process. It is equal to itself only.

    What it answers once it answers always (its length, text, number, items, attributes), until the tests call one of
    its methods: nothing else that they do can change a value that is honest.
    """

    __slots__ = ("_number", "_owner", "_program")

    def __init__(self, program: RemoteProgram, number: int) -> None:
        self._program, self._number = program, number
        self._owner: int | None = None
        """The value whose attribute this is."""

    def __deepcopy__(self, memo: object) -> Remote:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self._program.pinned("attr", self, name)
        if isinstance(found, Remote) and found._owner is None:
            found._owner = self._number
        return found

    def __getitem__(self, key: Any) -> Any:
        return self._program.pinned("item", self, key)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._program.pinned("iter", self)
        if not isinstance(iterator, Remote) or iterator._number == self._number:
            return iterator  # type: ignore[no-any-return]
        return self._program.replayed(iterator)

    def __next__(self) -> Any:
        return self._program.ask("next", self)

    def __contains__(self, value: Any) -> bool:
        return any(item == value for item in self)

    def __len__(self) -> int:
        return self._plain("len", int)

    def __bool__(self) -> bool:
        return self._plain("bool", bool)

    def __str__(self) -> str:
        return self._plain("str", str)

    def __repr__(self) -> str:
        return self._plain("repr", str)

    def __int__(self) -> int:
        return self._plain("int", int)

    def __float__(self) -> float:
        return self._plain("float", float)

    def _plain(self, operation: str, kind: type) -> Any:
        found = self._program.pinned(operation, self)
        if type(found) is not kind:
            raise TypeError(f"{operation}() gave no {kind.__name__}")
        return found


class RemoteFunction(Remote):
    """A function, or another thing to call, in the program's process."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._owner is not None:
            self._program.unpin(self._owner)
        return self._program.ask("call", self, args, kwargs)


class RemoteProgram:
    """Asks the program's process."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.functions: list[Any] = []
        self.lost = False
        """The process ended or broke the rules: whatever the tests make of that, they did not pass."""
        self.too_large = ""
        """What a value of the program exceeded."""
        self.unplain = ""
        """What the tests wanted to pass and could not."""
        self.pins: dict[int, dict[str, Any]] = {}
        """Answers by the value's number, then by the question as JSON."""
        self.items: dict[int, list[Any]] = {}
        """What was taken from iterators, by their numbers."""

    def pinned(self, operation: str, value: Remote, *operands: Any) -> Any:
        """The first answer to a question about a value."""
        question = json.dumps([operation, *(encode(operand, self.refer) for operand in operands)])
        answers = self.pins.setdefault(value._number, {})
        if question not in answers:
            answers[question] = self.ask(operation, value, *operands)
        found = answers[question]
        return copy.deepcopy(found) if isinstance(found, MUTABLE) else found

    def unpin(self, number: int) -> None:
        """Forget what a value answered: one of its methods is called."""
        self.pins.pop(number, None)

    def replayed(self, iterator: Remote) -> Iterator[Any]:
        """The items of a value that makes iterators, the same every time."""
        taken = self.items.setdefault(iterator._number, [])
        for n in itertools.count():
            if n == len(taken):
                try:
                    taken.append(next(iterator))
                except StopIteration:
                    return
            yield taken[n]

    def ask(self, operation: str, *operands: Any) -> Any:
        """The value of an operation; raises what it raised, as built-in exceptions."""
        forms = [encode(operand, self.refer) for operand in operands]
        try:
            self.wire.send([operation, *forms])
            return self._answer(operation)
        except Closed as error:
            self.lost = True
            self.too_large = str(error) if isinstance(error, TooLarge) else ""
            raise

    def loaded(self) -> tuple[str, str, bool] | None:
        """How the program's own execution ended: None well, else exception, text, whether in compiling."""
        answer = self.wire.receive()
        if isinstance(answer, list) and answer[:1] == ["ok"]:
            return None
        self._checked(answer, "")
        return answer[1], answer[2], len(answer) > 3

    def _answer(self, operation: str) -> Any:
        while True:
            answer = self._checked(self.wire.receive(), operation)
            if answer[0] == "ok":
                return decode(answer[1], self.resolve)
            if answer[0] == "stop":
                raise StopIteration
            if answer[0] == "raise":
                raise raised(answer[1], answer[2])
            self._called_back(*answer[1:])

    def _checked(self, answer: Any, operation: str) -> list[Any]:
        """The answer, if it has the form of one; Closed otherwise."""
        kinds = [type(part) for part in answer] if isinstance(answer, list) else []
        word = answer[0] if kinds[:1] == [str] else ""
        if (word == "ok" and len(kinds) == 2) or (word == "stop" and operation == "next"):
            return answer  # type: ignore[no-any-return]
        if word == "raise" and kinds[1:3] == [str, str]:
            return answer  # type: ignore[no-any-return]
        if word == "back" and kinds[1:2] == [int] and len(kinds) == 4 and operation:
            return answer  # type: ignore[no-any-return]
        raise Closed("not an answer")

    def _called_back(self, number: int, args: Any, kwargs: Any) -> None:
        function = self.resolve(["yours", number])
        positional, named = decode(args, self.resolve), decode(kwargs, self.resolve)
        if not isinstance(positional, list) or not isinstance(named, dict):
            raise Closed("not a call")
        try:
            answer = ["ok", encode(function(*positional, **named), self.refer)]
        except Closed:
            raise
        except Exception as error:
            answer = described(error)
        self.wire.send(answer)

    def refer(self, value: Any) -> Any:
        """What is passed for a value that is not plain; Unplain for what cannot be passed at all."""
        if isinstance(value, Remote):
            return {"ref": ["yours", value._number]}
        if isinstance(value, Iterator):
            return {"iterator": encode(list(value), self.refer)}
        if callable(value):
            self.functions.append(value)
            return {"ref": ["mine", len(self.functions) - 1]}
        self.unplain = type(value).__name__
        raise Unplain(f"the tests pass a {self.unplain}, which has no plain form")

    def resolve(self, reference: Any) -> Any:
        """What a reference of the program's process stands for; Closed for nothing."""
        try:
            owner, number, *rest = reference
            if owner == "yours" and type(number) is int and number >= 0:
                return self.functions[number]
            kind, name = rest
            if owner == "mine" and type(number) is int:
                if kind == "module" and name in OWN_MODULES:
                    return importlib.import_module(name)
                return (RemoteFunction if kind == "function" else Remote)(self, number)
        except (TypeError, ValueError, IndexError):
            pass
        raise Closed("not a reference")


def raised(name: str, text: str) -> BaseException:
    """The built-in exception of that name, with that text whatever its constructor makes of it."""
    base = BUILTIN_EXCEPTIONS.get(name, Exception)
    if name in SILENT:
        base, text = RuntimeError, f"{name}: {text}"
    methods = {"__init__": lambda self, *args: None, "__str__": lambda self: text}
    kind: Any = type(base.__name__, (base,), methods)
    made: BaseException = kind.__new__(kind, text)
    return made


def names_asked_for(tree: ast.Module) -> list[str]:
    """The names that tests take from the program: those they use and neither define nor find among the builtins.

    A builtin is taken from the program only where nothing else is (`assert sum(10, 15) == 6`): `set` in
    `set(f(x)) == set(y)` must not be the program's own.
    """
    nodes = list(ast.walk(tree))
    used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    own = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    own |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    own |= {
        (a.asname or a.name).split(".")[0]
        for n in nodes
        if isinstance(n, (ast.Import, ast.ImportFrom))
        for a in n.names
    }
    free = used - own
    foreign = {name for name in free if not hasattr(builtins, name)}
    return sorted(foreign if foreign - OWN_MODULES else free)


def imports_of(tree: ast.Module) -> str:
    """The imports that tests begin with; a program may rely on them, as it shares their names elsewhere."""
    return "\n".join(ast.unparse(n) for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom)))


def serve(channel: socket.socket) -> None:
    """Judge program after program until the other side hangs up.

    An order is a file with the tests (JSON: given, tests, entry_point), a pipe for the verdict, and the
    socket to the program's process. The state that tests may have changed is set anew for each.
    """
    depth = sys.getrecursionlimit()
    while True:
        word, descriptors = received(channel)
        if not word:
            return
        tests, verdict, talk = descriptors
        random.seed(SEED)
        sys.setrecursionlimit(depth)
        order = json.loads(text_of(tests))
        with socket.socket(fileno=talk) as end, open(verdict, "wb") as answer:
            found = run_tests(Wire(end), order["given"], order["tests"], order["entry_point"])
            answer.write(json.dumps(found).encode())
        channel.send(LOST if found["status"] == "lost" else b"done")


def run_tests(wire: Wire, given: str, tests: str, entry_point: str) -> dict[str, Any]:
    """The verdict: status `passed`, `failed` or `lost`, with the exception and its text.

    With an entry point, that name alone is the program's and `given` defines what else the tests need.
    """
    program = RemoteProgram(wire)
    try:
        failure = program.loaded()
        if failure is not None:
            return _failed(failure[0], failure[1], compiling=failure[2])
        _execute(program, given, tests, entry_point)
        verdict: dict[str, Any] = {"status": "passed"}
    except Closed:
        program.lost, verdict = True, {}
    except BaseException as error:
        verdict = _failed(*described(error)[1:])
    if program.unplain:
        return {"status": "unjudged", "message": f"the tests pass a {program.unplain}, which has no plain form"}
    if program.too_large:
        return _failed("ValueError", f"the program gives {program.too_large}")
    return {"status": "lost"} if program.lost else verdict


def _failed(error: str, message: str, compiling: bool = False) -> dict[str, Any]:
    return {"status": "failed", "error": error, "message": message, "compiling": compiling}


def _execute(program: RemoteProgram, given: str, tests: str, entry_point: str) -> None:
    tree = ast.parse(tests)
    scope: dict[str, Any] = {}
    if given:
        exec(compile(given, "<given>", "exec"), scope)
    imports = imports_of(tree)
    if imports:
        program.ask("import", imports)
    wanted = [entry_point] if entry_point else names_asked_for(tree)
    found = program.ask("names", wanted)
    if not isinstance(found, dict):
        raise Closed("not names")
    for name in wanted:
        scope.pop(name, None)
        if name in found:
            scope[name] = importlib.import_module(name) if name in OWN_MODULES else found[name]
    exec(compile(tree, "<tests>", "exec"), scope)
