"""What crosses the border between a program and its tests: plain values within bounds, answers that stay."""

from __future__ import annotations

import collections
import datetime
import json
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

import pytest

from evalkit.sandbox import run_program
from evalkit.sandbox.guest import codec
from evalkit.sandbox.guest.codec import Closed, decode, encode
from evalkit.sandbox.records import Program
from tests.sandbox.test_programs import AMPLE

JUDGE_KIB = 1 << 20
"""Memory that no process of a sandbox may come to hold by a value."""


def nothing(reference: object) -> NoReturn:
    raise AssertionError(reference)


VALUES: tuple[Any, ...] = (
    None, True, 1.5, "ü", 3, -(10**40), [1, [2]], (1, (2,)), {1: (2,)}, {1, 2}, frozenset({1}), b"\x00\xff",
    bytearray(b"x"), 2 + 3j, range(3, 9, 2), slice(1, None, 2), Decimal("1.50"), Decimal("-Infinity"), Fraction(-1, 3),
    datetime.date(2020, 2, 29), datetime.timedelta(days=-1, seconds=3), collections.Counter("aab"),
    collections.OrderedDict(a=1), collections.deque([1, 2]), Ellipsis, {"list": [1]}, range(codec.MOST_STEPS),
)  # fmt: skip


def test_plain_values_come_back_as_they_were() -> None:
    for value in VALUES:
        found = decode(json.loads(json.dumps(encode(value, nothing))), nothing)
        assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "form",
    [
        {"Fraction": "1e3000000000"}, {"Fraction": "1/0"}, {"Fraction": "1_0"}, {"Fraction": 0.5},
        {"Decimal": "1e3000000000"}, {"Decimal": "1" * 5000}, {"Decimal": [0, [1], 10**9]}, {"range": [10**18]},
        {"range": [0, 10**30, 1]}, {"range": "ab"}, {"numpy": ["<U100000000", [9], ["x"] * 9]},
        {"numpy": ["O", [1], [1]]}, {"numpy": ["<f8", [1 << 40], [1.0]]}, {"int": 5}, {"bytes": "x"}, {"set": [[1]]},
        {"dict": [1]}, {"dict": [[1]]}, {"no such": 1}, {}, {"a": 1, "b": 2}, {"date": [0, 0, 0]},
        {"complex": [[], []]}, {"set": [n * (2**61 - 1) for n in range(1000)]},
        {"dict": [[{"int": hex(n * (2**61 - 1))}, 0] for n in range(1000)]},
    ],
)  # fmt: skip
def test_a_form_of_no_value_closes(form: Any) -> None:
    with pytest.raises(Closed):
        decode(form, nothing)


def test_depth_and_number_of_values_are_bounded() -> None:
    deep: Any = 1
    for _ in range(codec.MOST_LEVELS):
        deep = [deep]
    assert decode(deep, nothing) == deep
    with pytest.raises(Closed, match="too deeply"):
        decode([deep], nothing)
    assert codec.bounded(json.dumps("," * 2_000_000).encode())  # a text is one value
    with pytest.raises(Closed, match="too many"):
        codec.bounded(json.dumps([[]] * 1_000_001).encode())


SENDS = """
import json, os, struct
body = {body}
def f(x):
    for fd in range(3, 64):
        try:
            os.write(fd, struct.pack('!I', len(body)))
            sent = 0
            while sent < len(body): sent += os.write(fd, body[sent : sent + (1 << 20)])
        except OSError: pass
    return 1
"""
COSTLY = {
    "many empty lists": SENDS.format(body="b'[\"ok\",[' + b'[],' * (20 << 20) + b'[]]]'"),
    "many empty objects": SENDS.format(body="b'[\"ok\",[' + b'{},' * (20 << 20) + b'{}]]'"),
    "many small numbers": SENDS.format(body="b'[\"ok\",[' + b'1,' * (30 << 20) + b'1]]'"),
    "many escapes": SENDS.format(body="b'[\"ok\",\"' + b'\\\\\\\\\\\\\"' * (10 << 20) + b'\"]'"),
    "brackets without end": SENDS.format(body="b'[\"ok\",' + b'[' * (60 << 20)"),
    "a fraction": SENDS.format(body="json.dumps(['ok', {'Fraction': '1e3000000000'}]).encode()"),
    "a number of many digits": SENDS.format(body="b'[\"ok\",' + b'9' * (60 << 20) + b']'"),
    "an honest list": "def f(x): return [[] for _ in range(1_100_000)]",
    "an honest number": "from decimal import Decimal\ndef f(x): return Decimal('1e3000000000')",
    "an honest range": "def f(x): return range(10**18)",
    "again and again": "def f(x): return [[] for _ in range(300_000)]",
}
SCRIPT = """
import json, resource, sys
from evalkit.sandbox import run_programs
from evalkit.sandbox.records import Program
programs = [Program(*program) for program in json.loads(sys.stdin.read())]
outcomes = run_programs(programs, 1)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([[o.failure for o in outcomes], usage.ru_maxrss]))
"""


def test_no_value_makes_the_judge_large() -> None:
    tests = "for n in range(20): assert sorted(f(n)) == 'no'"
    programs = [[source, AMPLE, 2048, tests] for source in COSTLY.values()]
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, input=json.dumps(programs), capture_output=True, text=True, check=True)
    classes, most_kib = json.loads(done.stdout)
    assert set(classes) <= {"killed", "wrong_answer", "runtime_error", "memory"}
    assert [classes[n] for n, source in enumerate(COSTLY.values()) if "def f(x): return" in source and n < 10] == [
        "runtime_error", "runtime_error", "memory",
    ]  # fmt: skip
    assert most_kib < JUDGE_KIB


LIAR = """
class Liar:
    def __init__(self): self.asked = 0
    def next(self):
        self.asked += 1
        return self.asked
    def __float__(self): return float(self.next())
    def __int__(self): return self.next()
    def __index__(self): return self.next()
    def __len__(self): return self.next()
    def __bool__(self): return self.next() % 2 == 0
    def __str__(self): return str(self.next())
    __repr__ = __str__
    def __getitem__(self, key): return self.next()
    @property
    def field(self): return self.next()
class Many(Liar):
    def __iter__(self): return iter([self.next(), self.next()])
class Lazy(Liar):
    def __iter__(self):
        while self.asked < 9: yield self.next()
def f(kind='Liar'): return globals()[kind]()
"""
CHANGES = (
    "float(x)", "int(x)", "len(x)", "bool(x)", "str(x)", "repr(x)", "x[0]", "x['k']", "x.field", "math.pow(x, 1)",
    "math.fabs(x)", "f'{x}'", "'%s' % x",
)  # fmt: skip


@pytest.mark.parametrize("question", CHANGES)
def test_an_answer_does_not_change(question: str) -> None:
    """Each of these tests passes for a value that answers differently the second time."""
    tests = f"import math\nx = f()\nassert {question} != {question}"
    assert run_program(Program(LIAR, AMPLE, tests=tests)).failure == "wrong_answer"


@pytest.mark.parametrize("kind", ["Many", "Lazy"])
def test_items_do_not_change(kind: str) -> None:
    tests = f"x = f('{kind}')\nassert list(x) != list(x)"
    assert run_program(Program(LIAR, AMPLE, tests=tests)).failure == "wrong_answer"


def test_no_root_of_a_polynomial_by_lying() -> None:
    """HumanEval/32 asks for a root, which its test puts in by `math.pow`."""
    liar = """
class Root:
    def __init__(self, xs): self.values = iter([0.0, -xs[0] / xs[1], 0.0, 0.0])
    def __float__(self): return next(self.values)
def find_zero(xs): return Root(xs)
"""
    tests = """
import math
def poly(xs, x): return sum(coeff * math.pow(x, i) for i, coeff in enumerate(xs))
def check(candidate):
    for coeffs in ([6, -5, 1, 0], [0, -2, 7, 7]):
        assert math.fabs(poly(coeffs, candidate(list(coeffs)))) < 1e-4
check(find_zero)
"""
    assert run_program(Program(liar, AMPLE, tests=tests, entry_point="find_zero")).failure == "wrong_answer"
    honest = "def find_zero(xs): return {6: 2.0, 0: 0.0}[xs[0]]"
    assert run_program(Program(honest, AMPLE, tests=tests, entry_point="find_zero")).failure == "passed"


def test_methods_of_honest_classes_still_change_what_they_should() -> None:
    stack = """
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __getitem__(self, n): return self.items[n]
    def __iter__(self): return iter(self.items)
"""
    tests = """
s = Stack()
assert len(s) == 0 and not list(s) and s.items == []
s.push(1); s.push(2)
assert len(s) == 2 and list(s) == [1, 2] and s[0] == 1 and s.items == [1, 2]
assert s.pop() == 2 and len(s) == 1 and list(s) == [1] and [x for x in s] == [1]
push = s.push
push(5)
assert len(s) == 2 and s[1] == 5
"""
    outcome = run_program(Program(stack, AMPLE, tests=tests))
    assert (outcome.failure, outcome.message) == ("passed", "")


def test_generators_and_iterators_go_on() -> None:
    source = "def f():\n    for n in range(5): yield n\ndef g(): return iter([1, 2, 3])"
    tests = """
x = f()
assert next(x) == 0 and next(x) == 1 and list(x) == [2, 3, 4] and list(x) == []
y = g()
assert [next(y), next(y)] == [1, 2] and list(y) == [3]
assert [a for a, _ in zip(f(), f())] == [0, 1, 2, 3, 4]
"""
    outcome = run_program(Program(source, AMPLE, tests=tests))
    assert (outcome.failure, outcome.message) == ("passed", "")
