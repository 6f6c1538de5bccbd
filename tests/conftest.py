"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Configs speak of steps and metrics by name: the rooms that hold them register the names.
import evalkit.scoring.extract
import evalkit.scoring.metrics  # noqa: F401

# Tiny models compute faster on one thread, and two processes with a thread a core each slow one another down.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material (tokenizers, data, golden vectors); skips where it is absent."""
    named = os.environ.get("EVALKIT_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no shared material at {folder}; EVALKIT_SHARED can name it")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base model; not to be changed."""
    from evalkit.engines.hf.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random chat model (ChatML); not to be changed."""
    from evalkit.engines.hf.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("models") / "tiny-chat", chat=True)
