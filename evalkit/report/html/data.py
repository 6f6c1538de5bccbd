"""The data files of a benchmark's samples: an index of columns, and chunks of samples that a page loads on demand.

A page that is opened from the disk may load scripts and nothing else, so every file is one call of a function with the
data as compressed JSON in base64.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from evalkit.core.digest import plain
from evalkit.core.jsontext import escaped, json_text
from evalkit.core.records import Row
from evalkit.report.samples import Judged, Prompt, text_of
from evalkit.results.store import write_file
from evalkit.scoring.extract.trace import Span

CHUNK = 200
"""Samples in a file."""
LONGEST_PROMPT, LONGEST_OUTPUT, LONGEST_RESULT = 20_000, 50_000, 2_000
"""Characters that are kept of a text; the middle of a longer one is left out, and the page says so."""
LONGEST_CELL, LONGEST_PREVIEW = 60, 110
MISSING, TRUNCATED, AT_LIMIT, UNPARSED, FLAGGED, UNFINISHED, ABSENT = (1 << n for n in range(7))
"""Flags of a sample, as the index has them: no verdict; prompt cut at the left; output cut at its length limit; nothing
extracted; error or fault; ended in its reasoning; not in this column."""
TELLING = ("question", "problem", "query", "prompt", "text", "sentence", "input", "instruction", "context")
"""Columns of a row that say best what it is, the first that is there."""


@dataclass(frozen=True)
class Column:
    """One model of one run."""

    label: str
    """As the pages name it."""
    run: str
    model: str


@dataclass
class Cells:
    """What the index has of one column's samples, a value a row."""

    value: list[float | None] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    margin: list[float | None] = field(default_factory=list)
    length: list[int] = field(default_factory=list)

    def grow(self, rows: int) -> None:
        """Have so many rows; new ones are absent."""
        more = rows - len(self.flags)
        self.value += [None] * more
        self.answer += [""] * more
        self.flags += [ABSENT] * more
        self.margin += [None] * more
        self.length += [0] * more

    def put(self, row: int, judged: Judged) -> None:
        """Keep one sample."""
        self.value[row] = judged.value
        self.answer[row] = short(judged.verdict.answer, LONGEST_CELL)
        self.flags[row] = flags_of(judged)
        self.margin[row] = None if judged.margin is None else round(judged.margin, 4)
        self.length[row] = sum(reply.n_out for reply in judged.replies.values())


@dataclass
class Usage:
    """What a column's replies to one benchmark took."""

    tokens: int = 0
    """Of prompts, or of scored texts."""
    written: int = 0
    """Generated tokens."""
    seconds: float = 0.0


class SampleFiles:
    """Writes the samples of one benchmark; what statistics need of them stays in memory."""

    def __init__(self, folder: Path, benchmark: str, columns: Sequence[Column]) -> None:
        self.folder, self.benchmark, self.columns = folder, benchmark, columns
        self.cells = [Cells() for _ in columns]
        self.usage = [Usage() for _ in columns]
        self.subsets: dict[str, int] = {}
        self.subset: list[int] = []
        self.sample: list[str] = []
        self.draw: list[int] = []
        self.gold: list[str] = []
        self.preview: list[str] = []
        self._rows: dict[tuple[str, int], int] = {}
        self._prompts: dict[Any, int] = {}
        self._group = [0] * len(columns)

    def add(self, column: int, prompts: Any, judged: Iterator[Judged]) -> None:
        """The samples of one column. Columns of equal `prompts` were asked the same: these are written once."""
        is_new = prompts not in self._prompts
        group = self._group[column] = self._prompts.setdefault(prompts, len(self._prompts))
        answers, asked = _Chunks(self.folder, f"c{column}"), _Chunks(self.folder, f"p{group}")
        for one in judged:
            row = self._row(one)
            self.cells[column].grow(len(self.sample))
            self.cells[column].put(row, one)
            self._count(column, one)
            answers.put(row, answer_of(one))
            if is_new:
                asked.put(row, prompt_of(one))
        answers.close()
        asked.close()

    def close(self) -> None:
        """Write the index."""
        for cells in self.cells:
            cells.grow(len(self.sample))
        index = {
            "benchmark": self.benchmark,
            "chunk": CHUNK,
            "columns": [
                {"label": c.label, "run": c.run, "model": c.model, "prompts": group}
                for c, group in zip(self.columns, self._group, strict=True)
            ],
            "subsets": list(self.subsets),
            "subset": self.subset,
            "sample": self.sample,
            "draw": self.draw,
            "gold": self.gold,
            "preview": self.preview,
            "cells": self.cells,
        }
        write_part(self.folder, "index", index)

    def _row(self, one: Judged) -> int:
        key = (one.verdict.sample_id, one.draw)
        if key not in self._rows:
            self._rows[key] = len(self._rows)
            subset, _, number = one.verdict.sample_id.rpartition("/")
            self.subset.append(self.subsets.setdefault(subset, len(self.subsets)))
            self.sample.append(number)
            self.draw.append(one.draw)
            self.gold.append(short(one.verdict.gold, LONGEST_CELL))
            self.preview.append(preview_of(one.sample.row) if one.sample else "")
        return self._rows[key]

    def _count(self, column: int, one: Judged) -> None:
        usage = self.usage[column]
        for reply in one.replies.values():
            usage.tokens += reply.n_tokens
            usage.written += reply.n_out
            usage.seconds += reply.seconds


class _Chunks:
    """Collects rows, and writes a file whenever one is full."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._open: dict[int, dict[int, Any]] = {}

    def put(self, row: int, content: Any) -> None:
        """Keep one row."""
        number, at = divmod(row, CHUNK)
        rows = self._open.setdefault(number, {})
        rows[at] = content
        if len(rows) == CHUNK:
            self._write(number)

    def close(self) -> None:
        """Write what is left."""
        for number in sorted(self._open):
            self._write(number)

    def _write(self, number: int) -> None:
        write_part(self.folder, f"{self.name}-{number}", self._open.pop(number))


def write_part(folder: Path, name: str, content: Any) -> None:
    """One data file."""
    try:
        text = escaped(json.dumps(plain(content), ensure_ascii=False, allow_nan=False))
    except ValueError:  # a number that JSON does not have
        text = json_text(content)
    packed = base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")
    write_file(folder / f"{name}.js", f'evalkit.part("{name}","{packed}");\n')


def read_part(folder: Path, name: str) -> Any:
    """The content of a data file."""
    text = (folder / f"{name}.js").read_text(encoding="ascii")
    return json.loads(gzip.decompress(base64.b64decode(text.split('"')[3])))


def flags_of(one: Judged) -> int:
    """The flags of a sample."""
    marks = {
        MISSING: one.verdict.missing,
        TRUNCATED: one.verdict.truncated,
        AT_LIMIT: one.verdict.detail.get("finish") == "length",
        UNPARSED: one.unparsed,
        FLAGGED: bool(one.fault),
        UNFINISHED: one.unfinished,
    }
    return sum(flag for flag, is_set in marks.items() if is_set)


def short(value: Any, most: int) -> str:
    """A value as text in one line, cut to so many characters."""
    text = " ".join(text_of(value)[: 4 * most].split())
    return f"{text[: most - 1]}…" if len(text) > most else text


def preview_of(row: Row) -> str:
    """A line that tells a sample from others."""
    texts = {name.lower(): value for name, value in row.items() if isinstance(value, str) and value.strip()}
    named = next((texts[name] for name in TELLING if name in texts), "")
    return short(named or max(texts.values(), key=len, default=""), LONGEST_PREVIEW)


def prompt_of(one: Judged) -> dict[str, Any]:
    """What a page shows of a sample that does not depend on the reply."""
    return {**_prompt(one.prompt), "gold": cut(text_of(one.verdict.gold), LONGEST_RESULT)}


def _prompt(prompt: Prompt) -> dict[str, Any]:
    if prompt.fault:
        return {"fault": prompt.fault}
    parts = [[p.role, int(p.is_exemplar), *cut(p.text, LONGEST_PROMPT)] for p in prompt.parts]
    options = [[o.label, cut(o.given, LONGEST_RESULT), cut(o.scored, LONGEST_RESULT)] for o in prompt.options]
    return {"parts": parts, **({"options": options} if options else {})}


def answer_of(one: Judged) -> dict[str, Any]:
    """What a page shows of a reply and its verdict; keys without content are left out."""
    detail = one.verdict.detail
    found: dict[str, Any] = {
        "mode": one.benchmark.mode,
        "answer": cut(text_of(one.verdict.answer), LONGEST_RESULT),
        "values": {name: _value(value) for name, value in one.verdict.values.items()},
        "fault": one.fault,
        "finish": detail.get("finish", ""),
        "metric": one.benchmark.metric.name,
        "margin": one.margin,
        "tokens": sum(reply.n_tokens for reply in one.replies.values()),
        "written": sum(reply.n_out for reply in one.replies.values()),
        "seconds": round(sum(reply.seconds for reply in one.replies.values()), 4),
    }  # fmt: skip
    if one.benchmark.mode == "gen":
        span = one.trace.span if one.trace else None
        found["output"] = [[kind, *cut(text, LONGEST_OUTPUT)] for kind, text in pieces(one.text, span, one.thinking)]
        found |= _steps(one)
    else:
        found["scores"] = {label: [r.nll, r.n_tokens] for label, r in one.replies.items()}
    return {key: value for key, value in found.items() if value not in ("", None, {}, 0)}


def _value(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else short(value, LONGEST_RESULT)


def _steps(one: Judged) -> dict[str, Any]:
    if one.trace is None:
        return {}
    steps = [
        [s.call.name, [f"{k}: {short(v, 200)}" if k else short(v, 200) for k, v in s.call.args.items()],
         cut(text_of(s.result), LONGEST_RESULT)]
        for s in one.trace.steps
    ]  # fmt: skip
    return {"steps": steps, **({"step_fault": one.trace.fault} if one.trace.fault else {})}


def cut(text: str, most: int) -> list[Any]:
    """[text], or [its beginning, characters left out, its end]."""
    if len(text) <= most:
        return [text]
    half = most // 2
    return [text[:half], len(text) - 2 * half, text[-half:]]


def pieces(text: str, marked: Span | None, thinking: Span | None) -> list[tuple[str, str]]:
    """An output in pieces of one kind: `marked` (what became the answer), `thinking`, or plain (empty)."""
    spans: Mapping[str, Span | None] = {"marked": marked, "thinking": thinking}
    edges = sorted({0, len(text), *(edge for span in spans.values() if span for edge in span)})
    found: list[tuple[str, str]] = []
    for start, end in pairwise(edges):
        kind = next((kind for kind, span in spans.items() if span and span[0] <= start and end <= span[1]), "")
        found.append((kind, text[start:end]))
    return found
