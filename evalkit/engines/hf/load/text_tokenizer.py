"""Text tokenizers that only transformers can read (`engines.tokenizer` reads the others)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from evalkit.core.digest import digest, file_sha256
from evalkit.core.errors import DataError

FILES = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer_config.json", "added_tokens.json")
HINT = "give a checkpoint directory, a tokenizer.json, or a SentencePiece tokenizer.model"


@dataclass(frozen=True)
class AutoTextTokenizer:
    """Any other tokenizer, through transformers."""

    name: str
    fingerprint: str
    inner: Any = field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self.inner.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids."""
        return str(self.inner.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def load_auto(folder: Path) -> AutoTextTokenizer:
    """The tokenizer in a directory; DataError when there is none that transformers can read."""
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if not found:
        raise DataError(f"{folder} holds no tokenizer", HINT)
    try:
        inner = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise DataError(f"the tokenizer in {folder} cannot be loaded: {error}", HINT) from error
    mark = digest({file.name: file_sha256(file) for file in found})
    return AutoTextTokenizer(folder.resolve().name, mark, inner)
