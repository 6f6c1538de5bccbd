"""Answers of long-context tasks (protocol sheet: needle_in_haystack)."""

from __future__ import annotations

from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context
from evalkit.scoring.extract.boxed import boxed_answer


@STEPS.register("boxed_text")
def boxed_text(text: str, context: Context) -> str:
    """What the last `\\boxed{…}` holds, without further braces around it; `None` where there is none."""
    found = boxed_answer(text, context)
    while found is not None and found.startswith("{") and found.endswith("}"):
        found = found[1:-1]
    return "None" if found is None else found
