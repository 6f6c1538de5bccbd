"""The sandboxes that tests run against: every one that this machine has."""

from __future__ import annotations

import pytest

from evalkit.sandbox import Backend
from evalkit.sandbox.backend import candidates

FOUND: dict[str, Backend] = {backend.name: backend for backend, _ in candidates() if backend is not None}
ALONE = "bubblewrap alone"
if "bubblewrap" in FOUND:
    FOUND[ALONE] = Backend("bubblewrap", landlock=False)
WHY_NOT = [why for backend, why in candidates() if backend is None]


def backend_or_skip(name: str) -> Backend:
    """A sandbox by name; skips where the machine lacks it."""
    if name not in FOUND:
        pytest.skip(f"{name} is not here: {'; '.join(WHY_NOT)}")
    return FOUND[name]
