"""Shapes of golds: each check gives the fault in a clause, or an empty text."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

SHOWN = 60
"""Characters of a gold in a message."""


def has_gold(gold: Any) -> bool:
    """Whether there is a gold at all: null, not-a-number and blank text are none."""
    if gold is None or (isinstance(gold, str) and not gold.strip()):
        return False
    return not (isinstance(gold, float) and math.isnan(gold))


def is_number(gold: Any) -> bool:
    """A finite number; a truth value is none."""
    return isinstance(gold, (int, float, Decimal)) and not isinstance(gold, bool) and math.isfinite(gold)


def text_or_number(gold: Any) -> str:
    """A text that is not blank, or a number."""
    if is_number(gold) or (isinstance(gold, str) and gold.strip()):
        return ""
    return f"{shown(gold)} is neither text nor a number"


def one_text(gold: Any) -> str:
    """A text that is not blank."""
    return "" if isinstance(gold, str) and gold.strip() else f"{shown(gold)} is no text"


def listed(gold: Any) -> Any:
    """A gold that is one text as a list of one; others as they are."""
    return [gold] if isinstance(gold, str) else gold


def texts(gold: Any) -> str:
    """A text, or a list of at least one text, none of them blank."""
    golds = listed(gold)
    if not isinstance(golds, (list, tuple)) or not golds:
        return f"{shown(gold)} is neither text nor a list of texts"
    bad = [one for one in golds if one_text(one)]
    return f"{shown(bad[0])} among the golds is no text" if bad else ""


def shown(gold: Any) -> str:
    """A gold in a message, cut to a readable length."""
    text = "null" if gold is None else repr(gold)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
