"""Outputs made elsewhere, in place of a model: `recorded:PATH`.

PATH is a file of JSON lines, gzipped or not, or a folder with one file a subset, or `replies/<model>` of a run.
Nothing is asked: a request is answered by the line that belongs to its sample, cut at the benchmark's stop strings as
a model's output would be.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.digest import file_sha256
from evalkit.core.errors import ConfigError, DataError, ModelError
from evalkit.core.reasoning import stopped
from evalkit.core.records import Benchmark, Kind, ModelSpec, Reply, Request, Sample
from evalkit.engines.recorded.matching import Draws, Expected, OutputLine, Text, by_subset, folded, match, name_subsets

ENGINE = "recorded"
PREFIX = "recorded:"
SUFFIXES = (".jsonl", ".jsonl.gz")
FIELD = "field"
"""Option of the model: the field that holds the text; empty: the usual ones."""


@dataclass(frozen=True)
class Outputs:
    """The recorded outputs of one model for one benchmark."""

    texts: Mapping[str, Sequence[Text]]
    """Sample id -> its draws, for the samples that have a line."""
    draws: int
    """Draws of every sample."""
    absent: tuple[str, ...] = ()
    """Subsets without any line."""
    matched: str = ""
    """How lines were matched: by id, index or line order."""


def recorded_model(path: str, kind: Kind | None, field: str) -> ModelSpec:
    """The model that `recorded:PATH` stands for; it is named after the file or folder."""
    if not path:
        raise ConfigError(f"{PREFIX} names no path", "recorded:PATH is a .jsonl or .jsonl.gz file, or a folder of them")
    place = Path(os.path.realpath(os.path.expanduser(path)))
    options = {FIELD: field} if field else {}
    values: dict[str, Any] = {"path": str(place), "kind": kind or "chat", "engine": ENGINE, "options": options}
    return ModelSpec(name=f"recorded-{stem_of(place)}", source=PREFIX, resolved=values, **values)


def stem_of(file: Path) -> str:
    """A file's name without `.jsonl` or `.jsonl.gz`."""
    return file.name.removesuffix(".gz").removesuffix(".jsonl")


def files_of(path: str) -> list[Path]:
    """The recorded files at a path, sorted; ModelError when there are none."""
    place = Path(path)
    if place.is_file() and place.name.endswith(SUFFIXES):
        return [place]
    found = sorted(f for f in place.rglob("*") if f.name.endswith(SUFFIXES)) if place.is_dir() else []
    if not found:
        what = "is neither a file nor a folder" if not place.exists() else "has no .jsonl or .jsonl.gz files"
        raise ModelError(f"{path} {what}", "recorded:PATH is a .jsonl or .jsonl.gz file, or a folder of them")
    return found


def recorded_identity(spec: ModelSpec) -> dict[str, Any]:
    """What decides the replies: the content of the files, their names within the folder, and the field."""
    place = Path(spec.path)
    files = {f.relative_to(place).as_posix() if f != place else "": file_sha256(f) for f in files_of(spec.path)}
    return {ENGINE: files, FIELD: spec.options.get(FIELD, "")}


def load_outputs(
    spec: ModelSpec, benchmark: Benchmark, subsets: Mapping[str, Sequence[Sample]], cut: Mapping[str, Sequence[Sample]]
) -> Outputs:
    """Every sample's recorded outputs; `subsets` are all samples, `cut` those of the run.

    DataError when the lines do not fit the samples.
    """
    field = str(spec.options.get(FIELD, ""))
    own = (benchmark.family, benchmark.row, benchmark.name, benchmark.data.path.rpartition("/")[2])
    prefixes = [p for p in dict.fromkeys(own) if p]
    parts = _parts(Path(spec.path), list(subsets), prefixes, benchmark.name)
    texts: Draws = {}
    ways: dict[str, None] = {}
    for names, (file, lines) in parts.items():
        what = benchmark.name + (f" [{names[0]}]" if len(names) == 1 and len(subsets) > 1 else "")
        samples, chosen = ([s for n in names for s in of[n]] for of in (subsets, cut))
        found, how = match(lines, Expected(what, samples, chosen, bool(benchmark.where)), field, str(file))
        texts |= found
        ways[how] = None
    draws, texts = _even(texts, benchmark, spec.path)
    absent = tuple(name for name, samples in subsets.items() if not any(s.id in texts for s in samples))
    return Outputs(texts, draws, absent, ", ".join(ways))


class RecordedEngine:
    """Answers from recorded lines."""

    def __init__(self, spec: ModelSpec, outputs: Outputs) -> None:
        self._spec = spec
        self._outputs = outputs

    def run(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """One reply a request, in order; an error where no line belongs to the sample."""
        for request in requests:
            draws = self._outputs.texts.get(request.sample_id, ())
            text = draws[request.repeat] if request.repeat < len(draws) else None
            if text is None:
                yield Reply(request.key, error="no output is recorded")
                continue
            kept = stopped(text, request.gen.stop if request.gen else (), self._spec.reasoning)
            yield Reply(request.key, text=kept, finish="stop" if len(kept) < len(text) else "")

    def describe(self) -> Mapping[str, Any]:
        """Where the outputs are and how they were matched."""
        facts = {"engine": ENGINE, "path": self._spec.path, "matched": self._outputs.matched}
        return {**facts, "samples": len(self._outputs.texts), "draws": self._outputs.draws, "device": "none"}

    def close(self) -> None:
        """Nothing is held."""


Parts = dict[tuple[str, ...], tuple[Path, list[OutputLine]]]
"""Subsets that are matched together -> their lines."""


def _parts(place: Path, subsets: Sequence[str], prefixes: Sequence[str], name: str) -> Parts:
    """The lines of every subset that has some: by file, by a line's own `subset`, or all as one."""
    files = {place: stem_of(place)} if place.is_file() else _folder(place, prefixes)
    if place.is_dir():
        whole = {f: s for f, s in files.items() if len(files) == 1 and folded(s) in map(folded, prefixes)}
        if not whole:
            return _one_file_a_subset(files, subsets, prefixes, place, name)
        files = whole
    (file,) = files
    lines = read_lines(file)
    named = by_subset(lines, subsets, prefixes)
    if named is None:
        return {tuple(subsets): (file, lines)}
    return {(subset,): (file, own) for subset, own in named.items()}


def _folder(place: Path, prefixes: Sequence[str]) -> dict[Path, str]:
    """File -> stem of what belongs to a benchmark: its own folder or file inside, else every file."""
    own = {folded(p) for p in prefixes}
    for inside in sorted(place.iterdir()):
        is_file = inside.is_file() and inside.name.endswith(SUFFIXES)
        if folded(stem_of(inside)) in own and (is_file or inside.is_dir()):
            return {inside: stem_of(inside)} if is_file else _files_in(inside)
    return _files_in(place)


def _files_in(folder: Path) -> dict[Path, str]:
    return {f: stem_of(f) for f in sorted(folder.iterdir()) if f.is_file() and f.name.endswith(SUFFIXES)}


def _one_file_a_subset(
    files: Mapping[Path, str], subsets: Sequence[str], prefixes: Sequence[str], place: Path, name: str
) -> Parts:
    by_stem: dict[str, Path] = {}
    for file, stem in files.items():
        if stem in by_stem:
            raise DataError(f"{by_stem[stem].name} and {file.name} stand side by side in {place}", "keep one of them")
        by_stem[stem] = file
    chosen = name_subsets(list(by_stem), subsets, prefixes)
    if not chosen and (replies := _replies_of_a_run(by_stem, subsets)):
        return replies
    if not chosen:
        wanted = ", ".join(f"{s}.jsonl" for s in subsets[:3]) + ("…" if len(subsets) > 3 else "")
        raise DataError(f"no file in {place} is named after a subset of {name}", f"name them {wanted}")
    return {(subset,): (by_stem[stem], read_lines(by_stem[stem])) for subset, stem in chosen.items()}


def _replies_of_a_run(by_stem: Mapping[str, Path], subsets: Sequence[str]) -> Parts:
    """The lines of a run's own files, `<subset>.<worker>.jsonl`; empty where the files are others."""
    parts: Parts = {}
    for subset in subsets:
        files = [f for stem, f in by_stem.items() if folded(stem.rpartition(".")[0]) == folded(subset)]
        lines = [line for file in files for line in read_lines(file)]
        if lines and all({"key", "sample"} <= set(line.values) for line in lines):
            kept = [(line.place, line.values["sample"], line.values["text"]) for line in lines if "text" in line.values]
            parts[(subset,)] = (files[0], [OutputLine(place, {"id": name, "prediction": t}) for place, name, t in kept])
    return parts


def read_lines(file: Path) -> list[OutputLine]:
    """The JSON objects of a file; DataError, with the line's number, when one is none."""
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}", "the file is damaged, or it is no UTF-8 text") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            lines.append(OutputLine(f"{file}:{number}", _object(line, f"{file}:{number}")))
    if not lines:
        raise DataError(f"{file} is empty", "a recorded file holds a JSON object a line")
    return lines


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: no JSON: {error}", "a recorded file holds a JSON object a line") from error
    if not isinstance(value, dict):
        raise DataError(f"{place}: {type(value).__name__}, not an object", 'a line is {"prediction": "…"}')
    return value


def _even(texts: Draws, benchmark: Benchmark, path: str) -> tuple[int, Draws]:
    """(draws of every sample, the texts cut to them): all that are there, or as many as the benchmark takes.

    Samples without any text are no measure.
    """
    counts = {len(found) for found in texts.values() if any(text is not None for text in found)} or {1}
    wanted = benchmark.gen.num_samples
    if wanted > 1 and min(counts) < wanted:
        found = min(counts)
        hint = f"--num-samples {found}, or record more"
        raise DataError(f"{path}: {found} outputs a sample, {benchmark.name} takes {wanted}", hint)
    if wanted == 1 and len(counts) > 1:
        raise DataError(
            f"{path}: between {min(counts)} and {max(counts)} outputs a sample of {benchmark.name}",
            "record as many draws of each: unequal numbers would weigh samples unequally",
        )
    draws = wanted if wanted > 1 else counts.pop()
    return draws, {sample: found[:draws] for sample, found in texts.items()}
