"""Named functions as configs write them: `name`, `{name: argument}` or `{name: {key: value}}`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.records import NamedCall
from evalkit.core.registry import CONTRASTS, METRICS, SOLVERS, STEP_CHECKS, STEPS, did_you_mean

FIRST = ""
"""Key of an argument that was given without a name; it goes to the function's first own parameter."""
STEP_OWN = ("text", "context")
"""Parameters of an extraction step that configs do not give."""
EVALUATE = "evaluate"
"""Prefix of metrics that come from the `evaluate` library: `evaluate:<name or path>`."""


def parse_calls(value: Any) -> tuple[NamedCall, ...]:
    """One call, or a list of calls, from YAML values; ConfigError when the shape is off."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(_parse(item) for item in items)


def _parse(item: Any) -> NamedCall:
    if isinstance(item, NamedCall):
        return item
    if isinstance(item, str):
        return NamedCall(item)
    if isinstance(item, Mapping) and len(item) == 1:
        name, args = next(iter(item.items()))
        return NamedCall(str(name), dict(args) if isinstance(args, Mapping) else {FIRST: args})
    raise ConfigError(f"{item!r} names no function", "write `name`, or `name: {argument: value}`")


def bound_arguments(call: NamedCall, function: Callable[..., Any], skip: Sequence[str], what: str) -> dict[str, Any]:
    """The call's arguments by name, checked against the function; `skip` are parameters that configs do not give."""
    names, needed = _parameters(function, tuple(skip))
    given = dict(call.args)
    if FIRST in given:
        if not names:
            raise ConfigError(f"{what} {call.name!r} takes no argument", "")
        given[names[0]] = given.pop(FIRST)
    for name in given:
        if name not in names:
            raise ConfigError(f"{what} {call.name!r} has no argument {name!r}", did_you_mean(name, names))
    missing = [n for n in needed if n not in given]
    if missing:
        raise ConfigError(f"{what} {call.name!r} needs the argument {missing[0]!r}", "")
    return given


@lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any], skip: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(names of the parameters that configs give, those without a default); looked up for every sample."""
    found = inspect.signature(function).parameters.values()
    own = [p for p in found if p.name not in skip and p.kind is not p.VAR_KEYWORD]
    return [p.name for p in own], [p.name for p in own if p.default is p.empty]


def check_steps(steps: Sequence[NamedCall]) -> None:
    """ConfigError, with near matches, for an unknown step, an unknown, missing or impossible argument."""
    for call in steps:
        arguments = bound_arguments(call, STEPS.get(call.name), STEP_OWN, STEPS.what)
        if call.name in STEP_CHECKS and not any(_is_template(value) for value in arguments.values()):
            STEP_CHECKS.get(call.name)(**arguments)


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def make_metric(call: NamedCall) -> Any:
    """The metric that a config names; ConfigError, with near matches, for a wrong name or argument."""
    prefix, colon, path = call.name.partition(":")
    if colon and prefix == EVALUATE:
        factory = METRICS.get(EVALUATE)
        return factory(path, **bound_arguments(call, factory, ("path",), METRICS.what))
    factory = METRICS.get(call.name)
    return factory(**bound_arguments(call, factory, (), METRICS.what))


def make_contrast(call: NamedCall) -> Any:
    """The comparison of subsets that a config names; ConfigError, with near matches, for a wrong name or argument."""
    factory = CONTRASTS.get(call.name)
    return factory(**bound_arguments(call, factory, (), CONTRASTS.what))


def make_solver(call: NamedCall) -> Any:
    """The solver that a config names; ConfigError, with near matches, for a wrong name or argument."""
    factory = SOLVERS.get(call.name)
    return factory(**bound_arguments(call, factory, (), SOLVERS.what))
