"""What steps and metrics there are, in a line each with an example, read from the registries."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import evalkit.scoring.extract
import evalkit.scoring.metrics
from evalkit.core.calls import STEP_OWN
from evalkit.core.registry import METRICS, STEPS, Registry

KINDS: Mapping[str, tuple[Registry[Any], tuple[str, ...], str]] = {
    "steps": (STEPS, STEP_OWN, "extract: [{}]"),
    "metrics": (METRICS, ("path",), "metric: {}"),
}
"""Kind -> (its registry, parameters that configs do not give, how a config writes one)."""


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Name, what it does, its arguments with their defaults, and how a config writes it, of every step or metric."""
    registry, skip, form = KINDS[kind]
    rows = []
    for name in registry:
        given = [p for p in inspect.signature(registry.get(name)).parameters.values() if p.name not in skip]
        shown = "evaluate:NAME" if name == "evaluate" else name
        needed = {p.name: p.name.upper() for p in given if p.default is p.empty}
        call = f"{{{shown}: {{{', '.join(f'{k}: {v}' for k, v in needed.items())}}}}}" if needed else shown
        arguments = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in given]
        rows.append(
            {
                "name": shown,
                "about": first_sentence(registry.get(name)),
                "arguments": ", ".join(arguments),
                "example": example_of(registry.get(name)) or form.format(call),
            }
        )
    return rows


def first_sentence(item: Any) -> str:
    """The first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())


def example_of(item: Any) -> str:
    """What a docstring gives behind `Example:`, as one line; empty where it gives none."""
    found = re.search(r"^Example:\s*(.*?)(?:\n\n|\Z)", inspect.getdoc(item) or "", re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def as_page() -> str:
    """docs/steps_and_metrics.md."""
    lines = [
        "# Steps and metrics",
        "",
        "Every extraction step and metric that a config may name; `list steps` and `list metrics` print the same.",
        "Made from their docstrings: `python -m evalkit.scoring.reference > docs/steps_and_metrics.md`.",
    ]
    for kind in KINDS:
        head = "| name | what it does | arguments | example |"
        lines += ["", f"## {kind.capitalize()}", "", head, "|---|---|---|---|"]
        for row in rows_of(kind):
            arguments = f"`{row['arguments']}`" if row["arguments"] else ""
            cells = [f"`{row['name']}`", row["about"], arguments, row["example"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


__all__ = ["KINDS", "as_page", "evalkit", "rows_of"]

if __name__ == "__main__":
    print(as_page(), end="")
