"""Extraction pipelines: named steps that turn a model's output into an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalkit.core.calls import STEP_OWN, bound_arguments, check_steps
from evalkit.core.records import NamedCall
from evalkit.core.registry import STEP_CHECKS, STEPS

Context = Mapping[str, Any]
"""What a step may know besides the text: `options`, `gold`, `row`, the subset's variables and what the caller adds."""
Step = Callable[..., Any]
"""Called as `step(text, context, **arguments)`; gives what the next step gets."""
__all__ = ["STEPS", "STEP_CHECKS", "Context", "Step", "check_steps", "extract"]


BoundSteps = tuple[tuple[Step, Mapping[str, Any]], ...]
"""Steps with their arguments by name."""


def bind(steps: Sequence[NamedCall]) -> BoundSteps:
    """The functions that the steps name, with their arguments. ConfigError for an unknown step or argument."""
    found = ((call, STEPS.get(call.name)) for call in steps)
    return tuple((step, bound_arguments(call, step, STEP_OWN, STEPS.what)) for call, step in found)


def run_steps(text: Any, steps: BoundSteps, context: Context) -> Any:
    """The answer in `text`: the steps in order, each on the result of the one before."""
    for step, arguments in steps:
        text = step(text, context, **arguments)
    return text


def extract(text: str, steps: Sequence[NamedCall], context: Context) -> Any:
    """The answer in `text`, by steps whose text arguments that are templates are filled already.

    ConfigError for an unknown step or argument.
    """
    return run_steps(text, bind(steps), context)
