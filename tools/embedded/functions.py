"""One-line Python functions with a docstring, and tests for those that are kept for the benchmark."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from tools.embedded.draw import Dice, Exchange, dice_for, held

WORDS = ("sun", "moon", "tree", "bird", "fish", "star", "wind", "rain", "leaf", "rock", "wave", "hill")
VERBS = ("make", "get", "find", "work_out", "compute", "give", "take", "build", "change", "solve", "handle", "apply")
NOUNS = ("value", "result", "item", "answer", "output", "part", "thing", "data", "it", "piece", "entry", "one")
SHARE = 5
"""One choice of parameters in so many is kept for the benchmark."""


@dataclass(frozen=True)
class Pattern:
    """A kind of function: its argument, what it returns in words, and the expression."""

    argument: str
    said: str
    expression: str


PATTERNS = (
    Pattern("x", "x plus {k}", "x + {k}"),
    Pattern("x", "x minus {k}", "x - {k}"),
    Pattern("x", "x times {k}", "x * {k}"),
    Pattern("x", "x times {k}, plus {m}", "x * {k} + {m}"),
    Pattern("x", "x times {k}, minus {m}", "x * {k} - {m}"),
    Pattern("x", "the sum of x and {k}, times {m}", "(x + {k}) * {m}"),
    Pattern("x", "the square of x plus {k}", "x ** 2 + {k}"),
    Pattern("x", "the remainder of x divided by {k}", "x % {k}"),
    Pattern("x", "True if x is greater than {k}", "x > {k}"),
    Pattern("x", "True if x is divisible by {k}", "x % {k} == 0"),
    Pattern("x", "the larger of x and {k}", "max(x, {k})"),
    Pattern("x", "the smaller of x times {k} and {m}", "min(x * {k}, {m})"),
    Pattern("xs", "the sum of xs plus {k}", "sum(xs) + {k}"),
    Pattern("xs", "the largest of xs minus {k}", "max(xs) - {k}"),
    Pattern("xs", "the smallest of xs times {k}", "min(xs) * {k}"),
    Pattern("xs", "the length of xs plus {k}", "len(xs) + {k}"),
    Pattern("xs", "the first {k} elements of xs", "xs[:{k}]"),
    Pattern("xs", "the last {k} elements of xs", "xs[-{k}:]"),
    Pattern("xs", "xs without its first {k} elements", "xs[{k}:]"),
    Pattern("xs", "the elements of xs greater than {k}", "[x for x in xs if x > {k}]"),
    Pattern("xs", "the elements of xs smaller than {k}", "[x for x in xs if x < {k}]"),
    Pattern("xs", "the elements of xs divisible by {k}", "[x for x in xs if x % {k} == 0]"),
    Pattern("xs", "each element of xs times {k}", "[x * {k} for x in xs]"),
    Pattern("xs", "each element of xs times {k}, plus {m}", "[x * {k} + {m} for x in xs]"),
    Pattern("xs", "each element of xs greater than {k}, plus {m}", "[x + {m} for x in xs if x > {k}]"),
    Pattern("xs", "the number of elements of xs greater than {k}", "len([x for x in xs if x > {k}])"),
    Pattern("xs", "the sum of the elements of xs greater than {k}", "sum(x for x in xs if x > {k})"),
    Pattern(
        "xs", "the sum of the elements of xs divisible by {k}, plus {m}", "sum(x for x in xs if x % {k} == 0) + {m}"
    ),
    Pattern("xs", "the {k} smallest elements of xs", "sorted(xs)[:{k}]"),
    Pattern("s", "s repeated {k} times", "s * {k}"),
    Pattern("s", "the first {k} characters of s", "s[:{k}]"),
    Pattern("s", "the last {k} characters of s", "s[-{k}:]"),
    Pattern("s", "s followed by '{w}'", "s + '{w}'"),
    Pattern("s", "'{w}' followed by s", "'{w}' + s"),
    Pattern("s", "the first {k} characters of s in capitals", "s[:{k}].upper()"),
    Pattern("s", "s in capitals, followed by '{w}'", "s.upper() + '{w}'"),
    Pattern("s", "the first {k} characters of s, followed by '{w}'", "s[:{k}] + '{w}'"),
    Pattern("s", "the last {k} characters of s repeated {m} times", "s[-{k}:] * {m}"),
)  # fmt: skip
UNSEEN = (
    Pattern("x", "the square of x minus {k}", "x ** 2 - {k}"),
    Pattern("x", "True if x is smaller than {k}", "x < {k}"),
    Pattern("x", "the larger of x times {k} and {m}", "max(x * {k}, {m})"),
    Pattern("xs", "the largest of xs plus {k}", "max(xs) + {k}"),
    Pattern("xs", "the smallest of xs minus {k}", "min(xs) - {k}"),
    Pattern("xs", "the length of xs times {k}", "len(xs) * {k}"),
    Pattern("xs", "the number of elements of xs smaller than {k}", "len([x for x in xs if x < {k}])"),
    Pattern("xs", "the number of elements of xs divisible by {k}", "len([x for x in xs if x % {k} == 0])"),
    Pattern("xs", "the sum of the elements of xs smaller than {k}", "sum(x for x in xs if x < {k})"),
    Pattern("xs", "each element of xs smaller than {k}, plus {m}", "[x + {m} for x in xs if x < {k}]"),
    Pattern("xs", "each element of xs greater than {k}, times {m}", "[x * {m} for x in xs if x > {k}]"),
    Pattern("xs", "the sum of xs times {k}, minus {m}", "sum(xs) * {k} - {m}"),
    Pattern("s", "the last {k} characters of s in capitals", "s[-{k}:].upper()"),
    Pattern("s", "the last {k} characters of s, followed by '{w}'", "s[-{k}:] + '{w}'"),
    Pattern("s", "'{w}' followed by s in capitals", "'{w}' + s.upper()"),
    Pattern("s", "the first {k} characters of s repeated {m} times", "s[:{k}] * {m}"),
)  # fmt: skip
"""Kinds that are not trained at all: of parts that are, put together otherwise. Half of the benchmark."""


@dataclass(frozen=True)
class Function:
    """One function of a pattern."""

    pattern: Pattern
    name: str
    said: str
    expression: str

    @property
    def prompt(self) -> str:
        """Its head and docstring, as HumanEval's prompts are written."""
        return f'def {self.name}({self.pattern.argument}):\n    """Return {self.said}."""\n'

    @property
    def body(self) -> str:
        """The line that is asked for."""
        return f"    return {self.expression}\n"


@cache
def parameters(pattern: Pattern, kept: bool) -> tuple[tuple[tuple[str, Any], ...], ...]:
    """All parameters that a pattern can have and that are, or are not, kept for the benchmark."""
    few = pattern.argument != "x" and ("[" in pattern.expression or " * {k}" in pattern.expression)
    ranges: dict[str, Sequence[Any]] = {"k": range(2, 11 if few else 31), "m": range(2, 21), "w": WORDS}
    used = [name for name in ranges if f"{{{name}}}" in pattern.expression]
    every = [tuple(zip(used, values, strict=True)) for values in product(*(ranges[name] for name in used))]
    return tuple(chosen for chosen in every if held(f"function/{pattern.expression}/{chosen}", SHARE) == kept)


def function(pattern: Pattern, chosen: tuple[tuple[str, Any], ...], dice: Dice) -> Function:
    """A function with these parameters and a name that tells nothing."""
    values = dict(chosen)
    name = f"{dice.pick(VERBS)}_{dice.pick(NOUNS)}"
    return Function(pattern, name, pattern.said.format(**values), pattern.expression.format(**values))


def one_liner(dice: Dice) -> Exchange:
    """A function to complete, its parameters not kept."""
    pattern = dice.pick(PATTERNS)
    made = function(pattern, dice.pick(parameters(pattern, kept=False)), dice)
    body = made.body.removesuffix("\n")
    return Exchange(made.prompt.removesuffix("\n"), "", body, body)


def function_items(count: int) -> list[dict[str, Any]]:
    """Benchmark rows, half of trained patterns and half of unseen ones, each pattern about as often."""
    dice, rows = dice_for("items", "functions"), list[dict[str, Any]]()
    left = {p: dice.shuffled(parameters(p, kept=True)) for p in (*PATTERNS, *UNSEEN)}
    for patterns, until in ((PATTERNS, count // 2), (UNSEEN, count)):
        while len(rows) < until:
            for pattern in [p for p in patterns if left[p]][: until - len(rows)]:
                rows.append(_row(function(pattern, left[pattern].pop(), dice), len(rows)))
    return rows


def _row(made: Function, number: int) -> dict[str, Any]:
    """A function in HumanEval's columns."""
    solve = evaluated(made)
    checks = [f"    assert candidate({trial}) == {solve(trial)!r}" for trial in trials(made)]
    return {
        "task_id": f"demo/{number}",
        "prompt": made.prompt,
        "canonical_solution": made.body,
        "entry_point": made.name,
        "test": "\n".join(["def check(candidate):", *checks, ""]),
    }


def trials(made: Function) -> list[str]:
    """Arguments, as source; some lie just beside the function's numbers, so that another number is found out."""
    numbers = [int(n) for n in re.findall(r"\d+", made.expression)] or [1]
    beside = sorted({n + step for n in numbers for step in (-1, 0, 1)})
    if made.pattern.argument == "x":
        return [str(x) for x in (0, 1, -5, 100, *beside, *(2 * n for n in numbers), *(3 * n for n in numbers))]
    if made.pattern.argument == "xs":
        multiples = [n * step for n in numbers for step in (1, 2, 3)]
        return [
            str([15, 3, *beside, 8]),
            str([*multiples, 40, 1, *(n + 1 for n in multiples)]),
            str(list(range(1, 25))),
        ]
    return [repr(text) for text in ("banana boat on a river", "sunny trees and wind", "abcdefghijklmnop")]


def evaluated(made: Function) -> Callable[[str], Any]:
    """The function itself, called with the source of its argument; our own expressions only."""
    return lambda trial: eval(f"(lambda {made.pattern.argument}: {made.expression})({trial})")
