"""JSON that every reader takes: valid UTF-8, and no numbers that JSON does not have."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from evalkit.core.digest import plain

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a UTF-16 pair, which UTF-8 cannot hold; models and cut streams write such."""


def without_surrogates(text: str) -> str:
    """The text with U+FFFD, the replacement character, for every lone surrogate."""
    return SURROGATE.sub("\ufffd", text) if not text.isascii() else text


def escaped(text: str) -> str:
    """JSON text with every lone surrogate as an escape, from which it is read back."""
    return SURROGATE.sub(lambda m: f"\\u{ord(m[0]):04x}", text) if not text.isascii() else text


def json_text(value: Any) -> str:
    """One document in one line, for other programs; numbers that are not finite become null."""
    return without_surrogates(json.dumps(_finite(plain(value)), ensure_ascii=False, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
