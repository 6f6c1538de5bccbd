"""Reads the published protocols' test vectors from the shared material."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def vectors(shared: Path, name: str) -> list[dict[str, Any]]:
    """The lines of one vector file."""
    text = (shared / "protocols" / "vectors" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
