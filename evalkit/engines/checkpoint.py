"""Finds a checkpoint's files, checks them and digests them, without loading a model."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.core.digest import file_sha256, weights_digest
from evalkit.core.errors import ModelError, first_line
from evalkit.core.records import Kind, ModelSpec
from evalkit.data.hub import reachable

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "adapter_config.json",
    "spiece.model",
)
SMALL_PATTERNS = ("*.tiktoken",)
UNUSED_FILES = ("*.pth", "*.gguf", "*.onnx", "*.msgpack", "*.h5", "original/*")
"""Copies of the weights in forms that are not loaded."""


def detect_kind(path: str, revision: str = "") -> Kind:
    """`chat` when the checkpoint brings a chat template, else `base`.

    `path` is a directory or a hub id that is in the local cache; ModelError otherwise.
    """
    folder = local_dir(path, revision)
    if folder is None:
        raise ModelError(
            f"cannot tell whether {path} is a base or a chat model: it is not in the local cache",
            f"fetch it first (hf download {path}), or say kind: base or kind: chat in a model config",
        )
    if (folder / "chat_template.jinja").is_file():
        return "chat"
    for name in ("tokenizer_config.json", "chat_template.json"):
        file = folder / name
        if file.is_file() and _read_json(file).get("chat_template"):
            return "chat"
    return "base"


def fetch_checkpoint(path: str, revision: str = "") -> None:
    """Bring a hub checkpoint into the local cache, once, before all workers; nothing for a directory.

    Its commit is then known, so that fingerprints do not change in mid-run. ModelError, in seconds,
    when the hub cannot be reached.
    """
    if local_dir(path, revision) is not None:
        return
    if not reachable():
        raise ModelError(
            f"{path} is no local directory, it is not in the local cache, and the hub is not reached",
            f"check the path and the network; or fetch it elsewhere: hf download {path}",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot_download(path, revision=revision or None, ignore_patterns=list(UNUSED_FILES))
    except (HfHubHTTPError, OSError, ValueError) as error:
        said = first_line(error) or type(error).__name__
        raise ModelError(f"{path} cannot be fetched from the hub: {said}", "check the id and your access") from error


def check_checkpoint(spec: ModelSpec) -> None:
    """Checks that cost no model load; ModelError with a hint on the first fault.

    The directory exists, config.json parses, the weight files are there, each safetensors header
    is readable and agrees with the file's size. A hub id that is not cached passes: loading will
    fetch it.
    """
    folder = local_dir(spec.path, spec.revision)
    if folder is not None:
        if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} is a PEFT adapter, not a checkpoint",
                f"give its base model by --hf-path and the adapter by --peft-path {folder}",
            )
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} has no config.json",
                "give the directory that holds the checkpoint itself (config.json, tokenizer, weights)",
            )
        _read_json(folder / "config.json")
        for file in weight_files(folder):
            check_weight_file(file)
    if spec.peft_path:
        adapter = local_dir(spec.peft_path)
        if adapter is not None and not (adapter / "adapter_config.json").is_file():
            raise ModelError(f"{adapter} has no adapter_config.json", "peft_path must name a PEFT adapter")


def local_dir(path: str, revision: str = "") -> Path | None:
    """The directory of a checkpoint: `path` itself, or the cached snapshot of a hub id.

    None for a hub id that is not cached. Raises ModelError for a path that is neither a directory
    nor a possible hub id.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(f"{path} is a file, not a checkpoint", "give the directory that holds config.json")
    if not path or path.startswith((".", "~")) or HUB_ID.fullmatch(path) is None:
        raise ModelError(
            f"no checkpoint at {path or 'an empty path'}",
            "check the path; it is read relative to the working directory",
        )
    commit = _cached_commit(path, revision)
    snapshot = _hub_cache(path) / "snapshots" / commit
    return snapshot if commit and snapshot.is_dir() else None


def weight_files(folder: Path) -> list[Path]:
    """The weight files that would be loaded from `folder`, sorted; ModelError when some are missing."""
    for single, pattern in (
        ("model.safetensors", "*.safetensors"),
        ("pytorch_model.bin", "pytorch_model*.bin"),
    ):
        index = folder / f"{single}.index.json"
        if (folder / single).is_file():
            return [folder / single]
        if index.is_file():
            return _indexed(index)
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise ModelError(
        f"{folder} has no weights",
        "expected model.safetensors, model.safetensors.index.json with its files, or pytorch_model.bin",
    )


def check_weight_file(file: Path) -> None:
    """Check one weight file without reading its tensors; ModelError when it cannot be whole."""
    size = file.stat().st_size
    with file.open("rb") as handle:
        start = handle.read(48)
        if start.startswith(b"version https://git-lfs"):
            raise ModelError(f"{file} is a git-lfs pointer, not the weights", "fetch the files: git lfs pull")
        if size == 0:
            raise ModelError(f"{file} is empty", "copy or download the checkpoint again")
        if file.suffix != ".safetensors":
            return
        length = struct.unpack("<Q", start[:8])[0] if size >= 8 else size
        handle.seek(8)
        header = handle.read(length) if length <= size - 8 else b""
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{file} is not a readable safetensors file ({size} bytes)",
            "copy or download the checkpoint again",
        ) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ModelError(
            f"{file} is {'truncated' if size < expected else 'too long'}: {size} of {expected} bytes",
            "copy or download the checkpoint again",
        )


def content(path: str, revision: str, code: bool) -> Mapping[str, Any]:
    """Digests of a local directory's files (`code`: its Python files too), or id and commit of a hub checkpoint.

    ModelError when the path is neither a directory nor a possible hub id.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        local_dir(path, revision)  # raises when it cannot be a hub id either
        return {"hub": path, "commit": _cached_commit(path, revision) or revision or "main"}
    files = [folder / name for name in SMALL_FILES if (folder / name).is_file()]
    files += [file for pattern in SMALL_PATTERNS for file in sorted(folder.glob(pattern))]
    files += sorted(folder.glob("*.py")) if code else []
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    small = {file.name: file_sha256(file) for file in files}
    return {**small, **{file.name: weights_digest(file) for file in weights}}


def _hub_cache(repo: str) -> Path:
    """Folder of a model in the hub's local cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def _cached_commit(repo: str, revision: str) -> str:
    """Commit that `revision` (default main) names in the local cache; empty when unknown."""
    if COMMIT.fullmatch(revision):
        return revision
    ref = _hub_cache(repo) / "refs" / (revision or "main")
    return ref.read_text().strip() if ref.is_file() else ""


def _indexed(index: Path) -> list[Path]:
    """The files a weight index names; ModelError when one is missing."""
    names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    if not names:
        raise ModelError(f"{index} names no weight files", "copy or download the checkpoint again")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(names)} weight files are missing from {index.parent}: {missing[0]}",
            "copy or download the checkpoint again",
        )
    return [index.parent / name for name in names]


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file; ModelError when it is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not valid JSON: {error}", "copy or download the checkpoint again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file} does not hold a JSON object", "copy or download the checkpoint again")
    return value
