"""Steps that read numbers."""

from __future__ import annotations

import re

from evalkit.core.errors import DataError
from evalkit.core.registry import STEPS
from evalkit.scoring.extract.base import Context

# \d is meant to match every Unicode digit: full-width answers count.
NUMBER = re.compile(r"-?\d+\.\d+|-?\d+")
GSM8K_MARK = "#### "


@STEPS.register("last_number")
def last_number(text: str, context: Context, none: str = "") -> str:
    """The last number as text, or `none` (protocol sheet: gsm8k).

    Numbers are read left to right, with an optional minus and decimals; a thousands separator parts
    two numbers, and so does a minus between digits (`10-3` gives `-3`).
    """
    found = NUMBER.findall(text)
    return found[-1] if found else none


@STEPS.register("gsm8k_gold")
def gsm8k_gold(text: str, context: Context) -> str:
    """The result at the end of a worked solution: from the first `#### ` to the next, commas removed.

    Not stripped (protocol sheet: gsm8k). DataError when there is no `#### `.
    """
    parts = text.split(GSM8K_MARK)
    if len(parts) < 2:
        raise DataError(f"no {GSM8K_MARK!r} in the gold answer {text[-60:]!r}", "is `gold` the solution's column?")
    return parts[1].replace(",", "")
