"""Assembles exemplars; what they are made of is loaded by `data.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.core import template
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Benchmark, Member, Row, Sample, ShotSpec, Turn
from evalkit.prompts import quirks, rows
from evalkit.prompts.rendering import Exemplars, fill, scope


def pick(pool: Sequence[Row], spec: ShotSpec, what: str) -> list[Row]:
    """The rows of the pool that `rows:` names, in that order; all without it."""
    if spec.rows is None:
        return list(pool)
    missing = [i for i in spec.rows if not 0 <= i < len(pool)]
    if missing:
        raise DataError(
            f"{what}: exemplar rows {missing} are wanted, the pool has {len(pool)}",
            "the few-shot split is incomplete: fetch the data set again",
        )
    return [pool[i] for i in spec.rows]


def from_rows(benchmark: Benchmark, member: Member, spec: ShotSpec, pool: Sequence[Row]) -> Exemplars:
    """Exemplars rendered from rows, each filled from its own row first."""
    what = f"{benchmark.name} [{member.name}] exemplars"
    inherit = not spec.file
    fields = spec.fields if spec.fields is not None else (benchmark.fields if inherit else {})
    gold_rule = spec.gold or benchmark.gold
    texts: list[str] = []
    turns: list[Turn] = []
    picked = pick(pool, spec, what)
    read: list[Row] = []
    for index, raw in enumerate(picked):
        base: dict[str, Any] = {**member.variables, "subset": member.name, "split": spec.split, "idx": index}
        row = rows.columns(raw, fields, base, what)
        read.append(row)
        option = rows.gold_of(gold_rule, row, raw, base, what)
        filled = _fill_exemplar(benchmark, spec, member, row, option, index)
        if isinstance(filled, str):
            texts.append(filled)
        else:
            turns += filled
    text = spec.join.join(texts) + (spec.end if texts else "")
    return Exemplars(text=text, turns=turns, count=len(picked), rows=read)


def _fill_exemplar(
    benchmark: Benchmark, spec: ShotSpec, member: Member, row: Row, option: Any, index: int
) -> str | list[Turn]:
    sequential = quirks.SEQUENTIAL in benchmark.quirks
    others = {**scope(member.variables, member.name, index, row), "option": option}

    def one(source: str) -> str:
        return fill(source, row, others, sequential=sequential)

    if isinstance(spec.template, str):
        return one(spec.template)
    return [Turn(part.role, one(part.source)) for part in spec.template]


def from_turns(spec: ShotSpec, entries: Sequence[Mapping[str, Any]], what: str) -> Exemplars:
    """Exemplars that are stored as messages `{role, content}`."""
    turns = []
    for number, entry in enumerate(entries, 1):
        if entry.get("role") not in ("user", "assistant", "system") or not isinstance(entry.get("content"), str):
            raise DataError(f"{what}, line {number}: not a message", 'each line is {"role": …, "content": …}')
        turns.append(Turn(entry["role"], entry["content"]))
    return Exemplars(turns=turns, count=sum(t.role == "user" for t in turns))


def from_text(spec: ShotSpec, text: str) -> Exemplars:
    """Exemplars that are stored as one text: first lines skipped, final newlines removed."""
    lines = text.split("\n")[spec.skip_lines :]
    return Exemplars(text="\n".join(lines).rstrip("\n") + spec.end, count=spec.count or 1)


def among(benchmark: Benchmark, samples: Sequence[Sample], exemplars: Exemplars) -> list[Sample]:
    """The samples that stand among their own exemplars, so that the prompt shows their answers.

    An exemplar is a sample's own where all columns that the prompt uses are equal. Where exemplars are texts, all of
    these columns' texts must stand in them, and one be at least `DISTINCT` characters long.
    """
    names = {name for _, source in rows.template_sources(benchmark) for name in template.names_in(source)}
    whole = exemplars.text + "\n".join(turn.text for turn in exemplars.turns)
    if not exemplars.count or not whole or not samples:
        return []
    columns = list(samples[0].row) if "row" in names else [name for name in samples[0].row if name in names]
    comparable = bool(exemplars.rows) and all(set(columns) <= set(row) for row in exemplars.rows)
    shown = [[row[name] for name in columns] for row in exemplars.rows] if comparable else []

    def is_shown(sample: Sample) -> bool:
        used = [sample.row.get(name) for name in columns]
        if comparable:
            return bool(columns) and used in shown
        values = sorted(_texts(used), key=len, reverse=True)
        return bool(values) and len(values[0]) >= DISTINCT and all(value in whole for value in values)

    return [sample for sample in samples if is_shown(sample)]


DISTINCT = 20
"""Characters from which on a text in common is no chance."""


def _texts(value: Any) -> list[str]:
    """The texts in a value that are not blank, stripped."""
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [text for item in items for text in _texts(item)]


def check_fit(benchmark: Benchmark, exemplars: Exemplars) -> None:
    """ConfigError when text exemplars meet a turn prompt or the other way round, or the count is off."""
    spec = benchmark.shots
    wanted = spec.count if spec else None
    if wanted is not None and exemplars.count != wanted:
        raise DataError(
            f"{benchmark.name}: {exemplars.count} exemplars found, {wanted} are expected",
            "the exemplar file is not the published one: `run.py fetch` brings it",
        )
    if exemplars.turns and isinstance(benchmark.prompt, str):
        raise ConfigError(f"{benchmark.name}: exemplars are turns, the prompt is one text", "write `prompt` as turns")
