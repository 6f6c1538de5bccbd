"""What all instruction checks share (protocol sheet: ifeval).

A check gets the response as it stands and the instruction's arguments, and says whether the
instruction is followed. Checks are registered under the ids of the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from evalkit.core.errors import DataError
from evalkit.core.registry import Registry

InstructionCheck = Callable[..., bool]
"""Called as `check(response, **arguments)`."""
Number = int | float
"""Counts in the data may be written as 3.0."""

CHECKS: Registry[InstructionCheck] = Registry("instruction")
FEWER = "less than"


def holds(count: int, relation: str, number: Number) -> bool:
    """`less than`: fewer than `number`; any other relation: at least that many."""
    return count < number if relation == FEWER else count >= number


def matches(pattern: str, text: str, flags: int = re.IGNORECASE) -> int:
    """Number of matches of a pattern that comes from the data; DataError when it is malformed."""
    try:
        return len(re.findall(pattern, text, flags))
    except re.error as error:
        raise DataError(f"malformed keyword {pattern!r}: {error}", "keywords are regular expressions") from error
