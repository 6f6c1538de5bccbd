"""What extraction steps and metrics may know of a sample besides the text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalkit.core.records import Benchmark, NamedCall, Sample
from evalkit.scoring.extract.base import bind, run_steps


def context_of(benchmark: Benchmark, sample: Sample) -> dict[str, Any]:
    """The subset's variables and name, the options, the raw gold and the row."""
    return {
        **sample.variables,
        "subset": sample.variables.get("subset", sample.subset),
        "options": benchmark.labels,
        "gold": sample.gold,
        "row": sample.row,
    }


def filled_steps(benchmark: Benchmark, sample: Sample) -> tuple[NamedCall, ...]:
    """The extraction steps with their arguments' templates filled from the subset's variables."""
    return fill_calls(benchmark.extract, sample.variables)


class Extraction:
    """The extraction steps of a benchmark: bound once, or for each sample where an argument is a template."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._calls = benchmark.extract
        has_templates = any(is_template(value) for call in self._calls for value in call.args.values())
        self._bound = None if has_templates else bind(self._calls)

    def __call__(self, text: str, sample: Sample, context: Mapping[str, Any]) -> Any:
        """The answer in an output. Steps may raise anything that an odd text or row makes them."""
        steps = self._bound
        if steps is None:
            steps = bind(fill_calls(self._calls, sample.variables))
        return run_steps(text, steps, context)


def is_template(value: Any) -> bool:
    """Whether an argument is a text with a template in it."""
    return isinstance(value, str) and "{{" in value


def fill_calls(calls: Iterable[NamedCall], variables: Mapping[str, Any]) -> tuple[NamedCall, ...]:
    """Calls whose text arguments are rendered where they hold a template."""

    def filled(value: Any) -> Any:
        if not is_template(value):
            return value
        from evalkit.core import template  # brings jinja, which metrics and steps alone do without

        return template.render(value, variables, "argument")

    return tuple(NamedCall(c.name, {k: filled(v) for k, v in c.args.items()}) for c in calls)
