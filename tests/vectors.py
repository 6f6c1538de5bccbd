"""Reads the published protocols' test vectors from the shared material."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def vectors(shared: Path, name: str, configs: str = "") -> list[dict[str, Any]]:
    """The lines of one vector file, only those whose config begins with `configs` where it is given."""
    text = (shared / "protocols" / "vectors" / f"{name}.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if str(line.get("config", "")).startswith(configs)]
