"""A tokenizer whose lengths are seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CharTokenizer:
    """One token a code point."""

    name: str = "char"
    fingerprint: str = "char"

    def encode(self, text: str) -> list[int]:
        """The code points of `text`."""
        return [ord(c) for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        """The characters of the code points."""
        return "".join(chr(i) for i in ids)
