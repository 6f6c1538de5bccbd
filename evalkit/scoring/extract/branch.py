"""Steps that depend on what kind of question a text answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalkit.core.calls import check_steps, parse_calls
from evalkit.core.errors import ConfigError
from evalkit.core.registry import STEP_CHECKS, STEPS, did_you_mean
from evalkit.scoring.extract.base import Context, extract


@STEPS.register("by")
def by(text: Any, context: Context, key: str, steps: Mapping[str, Any]) -> Any:
    """The steps that stand in `steps` under the value of the variable `key`: `by: {key: kind, steps: {mcq: [...]}}`.

    The variable is the subset's, or what the caller adds to the context. ConfigError when it is unknown
    or its value has no steps.
    """
    if key not in context:
        raise ConfigError(
            f"the steps depend on {key!r}, which is not known here", f"give {key}=…, one of {_some(steps)}"
        )
    value = str(context[key])
    if value not in steps:
        raise ConfigError(f"no steps for {key} {value!r}", did_you_mean(value, steps))
    return extract(text, parse_calls(steps[value]), context)


@STEP_CHECKS.register("by")
def check_by(key: str, steps: Mapping[str, Any]) -> None:
    """ConfigError when the steps of some value cannot work."""
    if not isinstance(steps, Mapping):
        raise ConfigError("`by` needs steps for each value", "by: {key: kind, steps: {mcq: [...], freeform: [...]}}")
    for listed in steps.values():
        check_steps(parse_calls(listed))


def _some(steps: Mapping[str, Any]) -> str:
    return ", ".join(map(str, steps))
