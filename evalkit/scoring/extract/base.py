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


def extract(text: str, steps: Sequence[NamedCall], context: Context) -> Any:
    """The answer in `text`: the steps in order, each on the result of the one before.

    Text arguments that are templates must be filled already. ConfigError for an unknown step or argument.
    """
    result: Any = text
    for call in steps:
        step = STEPS.get(call.name)
        result = step(result, context, **bound_arguments(call, step, STEP_OWN, STEPS.what))
    return result
