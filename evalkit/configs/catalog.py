"""Finds config files by name: the user's folders first, then the built-in ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from evalkit.core.errors import ConfigError
from evalkit.core.registry import near

ConfigKind = Literal["dataset_configs", "model_configs", "summarizers"]
GLOB = re.compile(r"[*?\[]")
PACKAGE = Path(__file__).resolve().parents[1]
LOOKS_LIKE_DATASET = re.compile(r"^(mode|data|prompt|metric|subsets|shots)\s*:", re.M)
LOOKS_LIKE_MODEL = re.compile(r"^(path|engine|kind)\s*:", re.M)


def builtin_folder(kind: ConfigKind) -> Path:
    """The folder of one kind that evalkit ships: inside the package, or beside it in a checkout."""
    inside = PACKAGE / "builtin" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


@dataclass(frozen=True)
class ConfigCatalog:
    """The folders that names are looked up in; `extra` are the user's, first wins."""

    extra: tuple[Path, ...] = ()

    def files(self, kind: ConfigKind) -> dict[str, list[Path]]:
        """name -> its files on one level of precedence; more than one is an ambiguity.

        Names that begin with `_` are bases and are not listed.
        """
        found: dict[str, list[Path]] = {}
        for folder in (*self.extra, None):
            level: dict[str, list[Path]] = {}
            for file in _yaml_files(folder, kind):
                if not file.stem.startswith("_"):
                    level.setdefault(file.stem, []).append(file)
            for name, files in level.items():
                found.setdefault(name, files)
        return dict(sorted(found.items()))

    def families(self) -> dict[str, Path]:
        """family -> its base file `_<family>.yaml`, which names the defaults."""
        found: dict[str, Path] = {}
        for folder in (*self.extra, None):
            for file in _yaml_files(folder, "dataset_configs"):
                if file.stem.startswith("_"):
                    found.setdefault(file.stem[1:], file)
        return found

    def find_base(self, name: str, child: Path, kind: ConfigKind) -> Path | None:
        """The parent that a config names: beside it, or by name among the configs of its kind, bases included."""
        stem = name.removesuffix(".yaml")
        beside = child.parent / f"{stem}.yaml"
        if beside.is_file() and beside != child:
            return beside
        for folder in (*self.extra, None):
            for file in _yaml_files(folder, kind):
                if file.stem == stem and file != child:
                    return file
        return None


def open_catalog(config_dirs: Sequence[str | Path] = ()) -> ConfigCatalog:
    """The catalog with the folders of `--config-dir` and of EVALKIT_CONFIGS."""
    named = [*map(str, config_dirs), *filter(None, os.environ.get("EVALKIT_CONFIGS", "").split(os.pathsep))]
    folders = [Path(name).expanduser() for name in named]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"the config folder {folder} does not exist", "check --config-dir and EVALKIT_CONFIGS")
    return ConfigCatalog(tuple(folder.resolve() for folder in folders))


def _yaml_files(folder: Path | None, kind: ConfigKind) -> list[Path]:
    if folder is None:
        return sorted(p for p in builtin_folder(kind).rglob("*.yaml") if p.is_file())
    if (folder / kind).is_dir():
        return sorted(p for p in (folder / kind).rglob("*.yaml") if p.is_file())
    if any((folder / other).is_dir() for other in ("dataset_configs", "model_configs", "summarizers")):
        return []
    return [file for file in sorted(folder.rglob("*.yaml")) if file.is_file() and _kind_of(file) == kind]


def _kind_of(file: Path) -> ConfigKind:
    """Where a loose file of a user's folder belongs, told by its keys."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if LOOKS_LIKE_MODEL.search(text) and not LOOKS_LIKE_DATASET.search(text):
        return "model_configs"
    if re.search(r"^rows\s*:", text, re.M) and not LOOKS_LIKE_DATASET.search(text):
        return "summarizers"
    return "dataset_configs"


def expand(pattern: str, known: Iterable[str]) -> list[str]:
    """The names that a glob matches, sorted."""
    return [name for name in sorted(known) if fnmatchcase(name, pattern)]


def is_glob(name: str) -> bool:
    """Whether a name is a pattern."""
    return GLOB.search(name) is not None


LISTED = ("dataset", "model", "summarizer")
"""What `run.py list` shows."""
SHOWN_NAMES = 8


def unknown(what: str, names: Sequence[str], known: Iterable[str]) -> ConfigError:
    """One error for all unknown names of a command, each with its near matches; the hint says where the known are."""
    pool = sorted(known)
    lines = []
    for name in names:
        close = near(name, pool)
        lines.append(f"{name} (did you mean {' or '.join(close)}?)" if close else name)
    plural = "s" if len(names) > 1 and what in LISTED else ""
    some = f"{', '.join(pool[:SHOWN_NAMES])}{', …' if len(pool) > SHOWN_NAMES else ''}"
    hint = f"`run.py list {what}s` shows what exists" if what in LISTED else f"there are: {some}"
    return ConfigError(f"unknown {what}{plural}: {'; '.join(lines)}", hint)


def only_file(name: str, files: Sequence[Path]) -> Path:
    """The one file of a name; two on one level are an error that lists them."""
    if len(files) > 1:
        raise ConfigError(f"the name {name!r} is ambiguous: {', '.join(map(str, files))}", "rename one of the files")
    return files[0]
