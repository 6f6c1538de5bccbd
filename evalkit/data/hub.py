"""The slow way to rows: the hub, through `datasets`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlparse

from evalkit.core.errors import DataError
from evalkit.core.records import Row
from evalkit.data.files import DataRoot, SplitSource, missing, read_file

PARQUET_REVISION = "refs/convert/parquet"
ENDPOINT = "https://huggingface.co"
REACH_SECONDS = 3.0


def reachable(endpoint: str | None = None, timeout: float = REACH_SECONDS) -> bool:
    """Whether the hub answers on its port; asked first, as its client retries for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    url = urlparse(endpoint or os.environ.get("HF_ENDPOINT", ENDPOINT))
    try:
        with socket.create_connection((url.hostname or "", url.port or 443), timeout):
            return True
    except OSError:
        return False


def load_from_hub(source: SplitSource, root: DataRoot) -> list[Row]:
    """Rows of one split from the hub or its cache; DataError, in seconds, when it cannot be had."""
    if not reachable():
        _go_offline()
    if source.file:
        return read_file(_download(source, root), source.key)
    return _load_dataset(source, root, source.revision or None)


def _go_offline() -> None:
    """Tell the hub's libraries, imported already or not yet: they read the environment once, at import."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            sys.modules[name].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def _download(source: SplitSource, root: DataRoot) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        revision = source.revision or None
        return Path(hf_hub_download(source.path, source.file, repo_type="dataset", revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise _translated(source, root, error) from error


def _load_dataset(source: SplitSource, root: DataRoot, revision: str | None) -> list[Row]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, source.config or None, split=source.split, revision=revision)
        return [dict(row) for row in loaded]
    except RuntimeError as error:
        if "script" in str(error).lower() and revision is None:
            return _load_dataset(source, root, PARQUET_REVISION)
        raise _translated(source, root, error) from error
    except (OSError, ValueError) as error:  # datasets' and the hub's own errors derive from these
        raise _translated(source, root, error) from error


def _translated(source: SplitSource, root: DataRoot, error: Exception) -> DataError:
    text = str(error)
    if "gated" in text.lower():
        return DataError(
            f"{source.path} is gated: its publisher wants its terms accepted",
            f"accept them at {ENDPOINT}/datasets/{source.path} and log in with `hf auth login`",
        )
    why = "unreachable" if os.environ.get("HF_HUB_OFFLINE") == "1" else text.strip().splitlines()[0][:200]
    return missing(source, root, why)
