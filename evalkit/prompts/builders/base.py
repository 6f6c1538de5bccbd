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

    @property
    def fingerprint(self) -> str:
        """Digest of the files that decide the ids."""
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


def nothing_beside(name: str) -> Path | None:
    """Where no data set is known."""
    return None


def not_kept(topic: str, text: str) -> None:
    """Where nobody reads remarks."""


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
    beside: Callable[[str], Path | None] = nothing_beside
    """The path of another file of the same data set, from the data root or the hub; None when it is absent."""
    remark: Callable[[str, str], None] = not_kept
    """Takes what must be known beside the numbers: a topic, and the text; a later text on a topic replaces it."""


Builder = Callable[..., Sequence[Row]]
BUILDERS: Registry[Builder] = Registry("row builder")
