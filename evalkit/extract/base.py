"""Extraction pipelines: named steps that turn a model's output into an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.calls import bound_arguments
from evalkit.registry import Registry
from evalkit.types import NamedCall

Context = Mapping[str, Any]
"""What a step may know besides the text: `options`, `gold`, `row`, the subset's variables and what the caller adds."""
Step = Callable[..., Any]
"""Called as `step(text, context, **arguments)`; gives what the next step gets."""

STEPS: Registry[Step] = Registry("extraction step")
CHECKS: Registry[Callable[..., None]] = Registry("check of an extraction step")
"""Looks at a step's arguments before any text is there; raises ConfigError."""
OWN = ("text", "context")


def extract(text: str, steps: Sequence[NamedCall], context: Context) -> Any:
    """The answer in `text`: the steps in order, each on the result of the one before.

    Text arguments that are templates must be filled already. ConfigError for an unknown step or argument.
    """
    result: Any = text
    for call in steps:
        step = STEPS.get(call.name)
        result = step(result, context, **bound_arguments(call, step, OWN, STEPS.what))
    return result


def check_steps(steps: Sequence[NamedCall]) -> None:
    """ConfigError, with near matches, for an unknown step, an unknown, missing or impossible argument."""
    for call in steps:
        arguments = bound_arguments(call, STEPS.get(call.name), OWN, STEPS.what)
        if call.name in CHECKS and not any(_is_template(value) for value in arguments.values()):
            CHECKS.get(call.name)(**arguments)


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value
