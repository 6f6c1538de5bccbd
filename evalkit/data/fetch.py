"""Brings rows and exemplars of benchmarks into a data root, in the hub's layout."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.configs.benchmark import read_benchmark
from evalkit.configs.catalog import open_catalog
from evalkit.configs.resolve import resolve_datasets
from evalkit.core import template
from evalkit.core.config_records import FetchSpec
from evalkit.core.digest import file_sha256
from evalkit.core.errors import DataError
from evalkit.core.packages import package_path
from evalkit.core.records import Benchmark, Member, Row
from evalkit.core.registry import Registry
from evalkit.data.download import download
from evalkit.data.files import DataRoot, SplitSource, local_files, write_file
from evalkit.data.sources import find_beside, load_rows, split_source

CONVERTERS: Registry[Callable[[str], str]] = Registry("exemplar converter")
RECORDED = ".sha256"
"""Beside exemplars whose config declares no checksum: the one they had when they were fetched."""


@CONVERTERS.register("none")
def as_is(text: str) -> str:
    """The published file is the exemplar file."""
    return text


@CONVERTERS.register("question_answer_blocks")
def question_answer_blocks(text: str) -> str:
    """Chain-of-Thought Hub's prompt file as turns.

    Blocks are parted by a blank line. Of each block the lines down to "Let's think step by step"
    are the question, to which "Answer:" is added; the rest, with its final newline, the answer.
    The published prompt uses the first four blocks.
    """
    turns = []
    for block in text.strip().split("\n\n")[:4]:
        question, mark, answer = block.partition("Let's think step by step\n")
        turns += [
            {"role": "user", "content": f"{question}{mark}Answer:"},
            {"role": "assistant", "content": f"{answer.rstrip()}\n"},
        ]
    return "".join(json.dumps(turn, ensure_ascii=False) + "\n" for turn in turns)


ROUND_ROLES = {"HUMAN": "user", "BOT": "assistant", "SYSTEM": "system"}


@CONVERTERS.register("prompt_rounds")
def prompt_rounds(text: str) -> str:
    """The rounds of an OpenCompass config (a Python file, which is read and not run) as turns, without the last one.

    A round is a call `dict(role=…, prompt=…)`; the last one holds the question's own field.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backslashes of LaTeX in plain string literals
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    fields = [{k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)} for call in calls]
    rounds = [(call.lineno, f) for call, f in zip(calls, fields, strict=True) if {"role", "prompt"} <= set(f)]
    ordered = [f for _, f in sorted(rounds, key=lambda item: item[0])]
    turns = [{"role": ROUND_ROLES[str(f["role"])], "content": f["prompt"]} for f in ordered]
    return "".join(json.dumps(turn, ensure_ascii=False) + "\n" for turn in turns[:-1])


def fetch_benchmarks(names: Sequence[str], root: Path, config_dirs: Sequence[str] = ()) -> Iterator[str]:
    """Fetch what is absent; yields a line for each file. DataError, with the place, when one cannot be had."""
    catalog = open_catalog(config_dirs)
    choices = {c.name: c for kind in ("base", "chat") for c in resolve_datasets(names, kind, catalog)}  # type: ignore[arg-type]
    root.mkdir(parents=True, exist_ok=True)
    for name, choice in choices.items():
        benchmark = read_benchmark(choice.file, catalog)[0]
        yield from _fetch_rows(benchmark, root)
        yield from _fetch_extra_files(benchmark, root)
        yield from _fetch_exemplars(benchmark, root)
        yield f"{name}: complete in {root}"


def _fetch_rows(benchmark: Benchmark, root: Path) -> Iterator[str]:
    for source in _sources(benchmark):
        if local_files(source, root):
            continue
        packaged = package_path(source.package)
        if packaged is not None:
            yield f"{source}: comes with the package {source.package.partition(':')[0]}"
            continue
        target = _write_rows(source, load_rows(replace(source, newlines="kept"), DataRoot(root)), root)
        yield f"{source}: {target} (sha256 {file_sha256(target)[:16]}…)"


def _fetch_extra_files(benchmark: Benchmark, root: Path) -> Iterator[str]:
    """Files that a builder reads where they are; one that cannot be had is said and no error."""
    data = benchmark.data
    for name in data.extra_files:
        target = root / data.path / name
        if target.is_file():
            continue
        brought = find_beside(data.path, name, DataRoot(root))
        if brought is None:
            yield f"{data.path}/{name}: cannot be had; {benchmark.name} does without it"
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(brought, target)
        yield f"{data.path}/{name}: {target} (sha256 {file_sha256(target)[:16]}…)"


def _sources(benchmark: Benchmark) -> list[SplitSource]:
    """Every split that scoring or the few-shot pool reads, each once."""
    shots = benchmark.shots
    found: dict[SplitSource, None] = {}
    for member in benchmark.members:
        data = benchmark.part(member.variables).data
        if data.is_made:
            continue
        splits = [data.split] if isinstance(data.split, str) else list(data.split.values())
        splits += [shots.split] if shots and shots.split else []
        for split in splits:
            found[split_source(data, _fill(data.config, member, split), split, _fill(data.file, member, split))] = None
    return list(found)


def _fill(source: str, member: Member, split: str) -> str:
    return template.render(source, {**member.variables, "subset": member.name, "split": split}, "data")


def _write_rows(source: SplitSource, rows: Sequence[Row], root: Path) -> Path:
    """Write one split where `local_files` finds it; rows that parquet would change become jsonl."""
    if source.file:
        target = inside(root, f"{source.path}/{source.file}")
        write_file(target, rows, source.key)
        return target
    folder = inside(root, f"{source.path}/{source.config}/{source.split}").parent
    target = folder / f"{source.split}-00000-of-00001.parquet"
    try:
        write_file(target, rows)
    except DataError:  # columns of mixed types, or that some rows lack
        target = folder / f"{source.split}.jsonl"
        write_file(target, rows)
    return target


def _fetch_exemplars(benchmark: Benchmark, root: Path) -> Iterator[str]:
    """The exemplar files, each from its publication; its digest must be the one that the config declares."""
    shots = benchmark.shots
    source = (shots.file or shots.turns or shots.text) if shots else ""
    if not shots or not source:
        return
    place = shots.fetch or FetchSpec()
    for member in benchmark.members:
        target = inside(root, _fill(source, member, ""))
        if target.is_file():
            _check_recorded(benchmark.name, target)
            continue
        url, declared = _fill(place.url, member, ""), _fill(shots.sha256, member, "")
        yield _fetch_exemplar_file(benchmark.name, root, target, url, place.convert, declared)


def inside(root: Path, name: str) -> Path:
    """A config's path below the data root; DataError for one that leads out of it."""
    target = Path(os.path.normpath(root / name))
    if "\0" in name or Path(os.path.normpath(root)) not in target.parents:
        raise DataError(f"{name!r} lies outside of the data root {root}", "fetch writes below the data root alone")
    return target


def _check_recorded(benchmark: str, target: Path) -> None:
    """DataError for exemplars that are not those that were fetched once."""
    record = target.with_name(target.name + RECORDED)
    if record.is_file() and record.read_text(encoding="utf-8").split()[:1] != [file_sha256(target)]:
        hint = f"put the file of {record} back, or delete both to fetch it again"
        raise DataError(f"{benchmark}: {target} has changed since it was fetched", hint)


def _fetch_exemplar_file(benchmark: str, root: Path, target: Path, url: str, convert: str, declared: str) -> str:
    if not url:
        raise DataError(f"{benchmark}: no place is known to fetch {target.name} from", f"put the file at {target}")
    content = CONVERTERS.get(convert)(_download(url, root)).encode()
    found = hashlib.sha256(content).hexdigest()
    if declared and found != declared:
        raise DataError(
            f"{benchmark}: the exemplars at {url} are not the published ones (sha256 {found[:16]}…)",
            f"expected {declared[:16]}…; put the right file at {target}",
        )
    _write(target, content)
    if not declared:
        record = target.with_name(target.name + RECORDED)
        _write(record, f"{found}  {target.name}\n".encode())
        return f"{target.name}: {target} (sha256 {found[:16]}…, no checksum is declared; recorded in {record.name})"
    return f"{target.name}: {target} (sha256 {found[:16]}…, as published)"


def _write(target: Path, content: bytes) -> None:
    """Replace a file in one step; DataError when that is not possible."""
    aside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DataError(f"cannot write {target}: {error.strerror}", "check the data root") from error


def _download(url: str, root: Path) -> str:
    try:
        return download(url, root).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot fetch {url}: {error}", "the file must be UTF-8 text") from error
