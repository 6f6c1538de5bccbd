"""What extraction steps and metrics may know of a sample besides the text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalkit.core.records import Benchmark, NamedCall, Sample


def context_of(benchmark: Benchmark, sample: Sample) -> dict[str, Any]:
    """The subset's variables and name, the options, the raw gold and the row."""
    return {
        **sample.variables,
        "subset": sample.variables.get("subset", sample.subset),
        "options": sample.options(benchmark),
        "gold": sample.gold,
        "row": sample.row,
    }


def filled_steps(benchmark: Benchmark, sample: Sample) -> tuple[NamedCall, ...]:
    """The extraction steps with their arguments' templates filled from the subset's variables."""
    return fill_calls(benchmark.extract, sample.variables)


def fill_calls(calls: Iterable[NamedCall], variables: Mapping[str, Any]) -> tuple[NamedCall, ...]:
    """Calls whose text arguments are rendered where they hold a template."""

    def filled(value: Any) -> Any:
        is_template = isinstance(value, str) and "{{" in value
        if not is_template:
            return value
        from evalkit.core import template  # brings jinja, which metrics and steps alone do without

        return template.render(value, variables, "argument")

    return tuple(NamedCall(c.name, {k: filled(v) for k, v in c.args.items()}) for c in calls)
