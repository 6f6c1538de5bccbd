"""Rows that are made rather than read: named in a config as `data.build`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evalkit.core.errors import DataError
from evalkit.core.records import Row
from evalkit.core.registry import Registry


class TextTokenizer(Protocol):
    """What a builder needs of a tokenizer: plain text to ids and back, no special tokens."""

    @property
    def name(self) -> str:
        """The name of the directory or file it was read from."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without BOS or EOS."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; leading spaces and newlines stay."""
        ...


def no_files(name: str) -> Path:
    """Where no data root is known."""
    raise DataError(f"the file {name} is needed, no data root is given", "give --data-root DIR")


@dataclass(frozen=True)
class Material:
    """What a builder works on."""

    rows: Sequence[Row]
    """Rows of the data file, read once for all subsets."""
    variables: Mapping[str, Any]
    """The subset's variables (`length`, `depth`)."""
    tokenizer: Callable[[], TextTokenizer]
    """Gives the tokenizer that lengths are counted with; called only when needed."""
    cache: dict[str, Any]
    """Work shared between the subsets of one benchmark."""
    find: Callable[[str], Path] = no_files
    """The path of a further file by its name below the data root; DataError when it is absent."""


Builder = Callable[..., Sequence[Row]]
BUILDERS: Registry[Builder] = Registry("row builder")
