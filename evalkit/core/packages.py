"""Files inside installed packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_path(package: str) -> Path | None:
    """The file or folder named `module:path` inside an installed package, found without importing it."""
    if not package:
        return None
    module, _, inside = package.partition(":")
    spec = importlib.util.find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        for file in (Path(place) / inside, Path(place) / "builtin" / inside, Path(place).parent / inside):
            if file.exists():
                return file
    return None
