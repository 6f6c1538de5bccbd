"""Content digests: the same content gives the same digest on every machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
WHOLE_FILE = 256 << 20
SAMPLED_BLOCKS = 64
ATOMS = frozenset({str, int, float, bool, type(None)})


@cache
def _field_names(kind: Any) -> tuple[str, ...] | None:
    """The fields of a record's class; None for a class of something else."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def plain(value: Any) -> Any:
    """`value` as JSON-ready builtins; records become mappings, sets sorted lists."""
    if type(value) in ATOMS:  # most values: requests are digested by the hundred thousand
        return value
    names = _field_names(type(value))  # type: ignore[arg-type]  # a class is hashable
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    return value


def digest(value: Any, length: int = 32) -> str:
    """Hex digest of a JSON-like value; independent of key order."""
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def file_sha256(path: Path) -> str:
    """sha256 of a whole file."""
    sha = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()


def weights_digest(path: Path) -> str:
    """Digest of a possibly huge file: whole below 256 MB, else its size and 64 spread blocks.

    Training moves every weight, so spread blocks tell two checkpoints of one shape apart;
    a hand-made edit of single weights in a huge file may escape.
    """
    size = path.stat().st_size
    if size <= WHOLE_FILE:
        return file_sha256(path)
    sha = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        for i in range(SAMPLED_BLOCKS):
            handle.seek((size - BLOCK) * i // (SAMPLED_BLOCKS - 1))
            sha.update(handle.read(BLOCK))
    return sha.hexdigest()
