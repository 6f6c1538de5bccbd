"""The slow way to rows: the hub, through `datasets`."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
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
    online = reachable()
    if source.file:
        return read_file(_download(source, root, online), source.key)
    return _load_dataset(source, root, source.revision or None) if online else _load_cached(source, root)


def download(source: SplitSource, root: DataRoot) -> Path:
    """The file of a data set on the hub, or in its cache; DataError when it cannot be had."""
    return _download(source, root, reachable())


def _download(source: SplitSource, root: DataRoot, online: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        revision = source.revision or None
        return Path(
            hf_hub_download(
                source.path, source.file, repo_type="dataset", revision=revision, local_files_only=not online
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise _translated(source, root, error, online) from error


def _load_dataset(source: SplitSource, root: DataRoot, revision: str | None) -> list[Row]:
    import datasets

    try:
        loaded = datasets.load_dataset(source.path, source.config or None, split=source.split, revision=revision)
        return [dict(row) for row in loaded]
    except RuntimeError as error:
        if "script" in str(error).lower() and revision is None:
            return _load_dataset(source, root, PARQUET_REVISION)
        raise _translated(source, root, error, online=True) from error
    except (OSError, ValueError) as error:  # datasets' and the hub's own errors derive from these
        raise _translated(source, root, error, online=True) from error


def _load_cached(source: SplitSource, root: DataRoot) -> list[Row]:
    """Rows from the cache of `datasets`, read in a process of its own.

    `datasets` looks only into its cache when HF_HUB_OFFLINE was set as it was imported; to set that here would
    change the hub's libraries for everything else that runs in this process. Of a dataset that no cache has a
    folder for, the process, which takes seconds, is not started.
    """
    if not _has_cache(source.path):
        raise missing(source, root, "unreachable")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows.pickle"
        asked = [source.path, source.config, source.split, source.revision, str(target)]
        done = subprocess.run(
            [sys.executable, "-c", READ_CACHE, *asked],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise _translated(source, root, OSError(lines[-1]), online=False)
        rows: list[Row] = pickle.loads(target.read_bytes())
        return rows


def _has_cache(path: str) -> bool:
    """Whether the cache of the hub or of `datasets` has a folder for this dataset, wherever both may lie.

    Folder names: `datasets--<org>--<name>` and `<org>___<name>` (huggingface_hub and datasets, "cache").
    """
    named = os.environ.get
    home = Path(named("HF_HOME") or Path(named("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    downloaded = Path(named("HF_HUB_CACHE") or named("HUGGINGFACE_HUB_CACHE") or home / "hub")
    prepared = Path(named("HF_DATASETS_CACHE") or home / "datasets")
    wanted = {path.lower().replace("/", separator) for separator in ("--", "___")}
    for folder in (downloaded, prepared):
        with contextlib.suppress(OSError):
            names = {entry.name.lower().removeprefix("datasets--") for entry in folder.expanduser().iterdir()}
            if wanted & names:
                return True
    return False


READ_CACHE = """
import pickle, sys
import datasets
path, config, split, revision, target = sys.argv[1:]
try:
    loaded = datasets.load_dataset(path, config or None, split=split, revision=revision or None)
except RuntimeError as error:
    if "script" not in str(error).lower() or revision:
        raise
    loaded = datasets.load_dataset(path, config or None, split=split, revision="PARQUET_REVISION")
with open(target, "wb") as file:
    pickle.dump([dict(row) for row in loaded], file)
""".replace("PARQUET_REVISION", PARQUET_REVISION)


def _translated(source: SplitSource, root: DataRoot, error: Exception, online: bool) -> DataError:
    text = str(error)
    if "gated" in text.lower():
        return DataError(
            f"{source.path} is gated: its publisher wants its terms accepted",
            f"accept them at {ENDPOINT}/datasets/{source.path} and log in with `hf auth login`",
        )
    why = "unreachable" if not online else text.strip().splitlines()[0][:200]
    return missing(source, root, why)
