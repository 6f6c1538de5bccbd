"""Text ↔ token ids for prompt builders and token counts, without a model.

The engines use the tokenizer of their checkpoint; this one never adds special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evalkit.core.digest import file_sha256
from evalkit.core.errors import DataError
from evalkit.prompts.builders import TextTokenizer as BuilderTokenizer

HINT = "give a checkpoint directory, a tokenizer.json, or a SentencePiece tokenizer.model"


class TextTokenizer(BuilderTokenizer, Protocol):
    """Encodes and decodes text, special tokens left out; known by its files."""

    @property
    def fingerprint(self) -> str:
        """Digest of the files that decide the ids."""
        ...


@dataclass(frozen=True)
class FastTokenizer:
    """A tokenizer.json, run by the `tokenizers` library."""

    name: str
    fingerprint: str
    inner: Any = field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return list(self.inner.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids."""
        return str(self.inner.decode(list(ids), skip_special_tokens=True))


@dataclass(frozen=True)
class PieceTokenizer:
    """A SentencePiece tokenizer.model."""

    name: str
    fingerprint: str
    inner: Any = field(repr=False, compare=False)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return [int(i) for i in self.inner.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids.

        SentencePiece drops the space a model puts before a text, which in the middle of a
        text is a real one; it is put back where the model puts none in front.
        """
        tokens = [int(i) for i in ids if not self.inner.is_control(int(i))]
        text = str(self.inner.decode(tokens))
        if not tokens or self._adds_prefix():
            return text
        spaced = self.inner.id_to_piece(tokens[0]).startswith("\u2581")
        return " " + text if spaced and not text.startswith(" ") else text

    def _adds_prefix(self) -> bool:
        pieces = self.inner.encode("a", out_type=str)
        return bool(pieces) and pieces[0].startswith("\u2581")


def load_tokenizer(path: str) -> TextTokenizer:
    """The tokenizer in a directory or file; DataError when there is none that can be read.

    tokenizer.json is taken first, then tokenizer.model, then whatever transformers makes of the
    directory; only the last imports transformers.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise DataError(f"no tokenizer at {path}", HINT)
    fast, pieces = (place / "tokenizer.json", place / "tokenizer.model") if place.is_dir() else (place, place)
    if fast.is_file() and fast.suffix == ".json":
        return _load_fast(fast)
    if pieces.is_file() and pieces.suffix == ".model":
        return _load_pieces(pieces)
    if place.is_dir():
        from evalkit.engines.hf.load.text_tokenizer import load_auto

        return load_auto(place)
    raise DataError(f"{path} is not a tokenizer file", HINT)


def _name(file: Path) -> str:
    """Name of the folder, since the files themselves are all called the same."""
    return file.resolve().parent.name


def _load_fast(file: Path) -> FastTokenizer:
    from tokenizers import Tokenizer

    try:
        inner = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file} is not a readable tokenizer.json: {error}", HINT) from error
    inner.no_truncation()
    inner.no_padding()
    return FastTokenizer(_name(file), file_sha256(file)[:32], inner)


def _load_pieces(file: Path) -> PieceTokenizer:
    from sentencepiece import SentencePieceProcessor

    inner = SentencePieceProcessor()
    try:
        inner.Load(str(file))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{file} is not a readable SentencePiece model: {error}", HINT) from error
    return PieceTokenizer(_name(file), file_sha256(file)[:32], inner)
