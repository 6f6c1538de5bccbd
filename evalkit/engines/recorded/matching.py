"""Which recorded line belongs to which sample: by id, by index, or by line order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.errors import DataError
from evalkit.core.records import Sample
from evalkit.core.registry import did_you_mean

FIELDS = ("prediction", "completions", "completion")
"""Where the text of a line is looked for, unless a field is named."""
IDS = ("id", "sample_id", "task_id")
INDEX, SUBSET = "index", "subset"
TELLING = 32
"""A text of so many characters in a line names its sample; a shorter one may be the model's answer."""
OWN_ID, GOLD = "<subset>/<index>", "<gold>"
"""Ways to name a sample that are no columns."""
ALIGN = "give every line an `id`, or an `index` counted from 0 (and a `subset`, where one file holds several)"

Text = str | None
"""One output; None where the line says null: there was no answer."""


@dataclass(frozen=True)
class OutputLine:
    """One line of a recorded file."""

    place: str
    """File and number, for errors."""
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Expected:
    """The samples that lines are matched to."""

    what: str
    """Benchmark and subset, for errors."""
    samples: Sequence[Sample]
    """All samples in row order, those included that a limited run leaves out."""
    cut: Sequence[Sample]
    """Those of this run."""
    filtered: bool = False
    """Whether the benchmark leaves rows of the split out."""


Draws = dict[str, list[Text]]
"""Sample id -> its outputs, in order."""


def match(lines: Sequence[OutputLine], expected: Expected, field: str, file: str) -> tuple[Draws, str]:
    """(outputs of the samples that have a line, what they were matched by).

    By id where an id of the lines names samples, else by `index` within one subset, else by line
    order, which needs as many lines as there are samples. Lines that share an id or an index are
    several draws of one sample.
    """
    found = _by_id(lines, expected.samples) or _by_index(lines, expected)
    pairs, how = found or (_by_order(lines, expected, file), "line order")
    _refuse_shifted(pairs)
    draws: Draws = {}
    for sample, line in pairs:
        draws.setdefault(sample.id, []).extend(texts_of(line, field))
    return draws, how


def _refuse_shifted(pairs: Sequence[tuple[Sample, OutputLine]]) -> None:
    """DataError when a line repeats the question of another sample than its own."""
    first = pairs[0] if pairs else None
    shared = [k for k in first[0].row if k in first[1].values] if first else []
    for column in shared:
        texts = {s.id: s.row[column] for s, _ in pairs if isinstance(s.row[column], str)}
        owner = {text: name for name, text in texts.items()}
        if len(owner) < len({s.id for s, _ in pairs}):
            continue  # not every sample is told by it
        for sample, line in pairs:
            text = line.values.get(column)
            if isinstance(text, str) and len(text) >= TELLING and owner.get(text, sample.id) != sample.id:
                raise DataError(f"{line.place}: its {column!r} is that of {owner[text]}, not of {sample.id}", ALIGN)


def texts_of(line: OutputLine, field: str) -> list[Text]:
    """The outputs that a line holds: one text, or a list of draws."""
    name = field or next((f for f in FIELDS if f in line.values), "")
    if name not in line.values:
        wanted = repr(field) if field else " or ".join(map(repr, FIELDS[:2]))
        texts = [k for k, v in line.values.items() if isinstance(v, (str, list)) and k not in IDS]
        near = did_you_mean(field, texts) if field else ""
        raise DataError(
            f"{line.place}: no field {wanted}", near or f"--recorded-field NAME, one of: {', '.join(texts)}"
        )
    value = line.values[name]
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if text is not None and not isinstance(text, str):
            what = f"{line.place}: {name!r} holds {type(text).__name__}, not text"
            raise DataError(what, "an output is a text, or a list of texts")
    return list(texts)


def by_subset(
    lines: Sequence[OutputLine], subsets: Sequence[str], prefixes: Sequence[str]
) -> dict[str, list[OutputLine]] | None:
    """Lines by the subset that they name; None when they name none. Subsets that are not run are left out."""
    if not all(isinstance(line.values.get(SUBSET), str) for line in lines):
        return None
    named: dict[str, list[OutputLine]] = {}
    for line in lines:
        named.setdefault(line.values[SUBSET], []).append(line)
    chosen = name_subsets(list(named), subsets, prefixes)
    if not chosen and len(named) == len(subsets) == 1:
        return None  # one part on both sides, whatever each calls it
    if not chosen:
        known = ", ".join(subsets[:5]) + ("…" if len(subsets) > 5 else "")
        raise DataError(f"{lines[0].place}: no `subset` of the lines is one of the benchmark's", f"subsets: {known}")
    return {subset: named[name] for subset, name in chosen.items()}


def name_subsets(names: Sequence[str], subsets: Sequence[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Subset -> the one of `names` (file stems, ...) that means it.

    Case, and `-`, `_`, `.` and blanks for one another, matter not; an equal name wins over one that has
    the benchmark's own name in front (`bbh-navigate`, `lukaemon_mmlu_anatomy`).
    """
    chosen: dict[str, str] = {}
    for subset in subsets:
        own = [n for n in names if folded(n) == folded(subset)]
        prefixed = [n for n in names if _is_prefixed(folded(n), folded(subset), prefixes)]
        found = own or prefixed
        if len(found) > 1:
            raise DataError(f"{' and '.join(found)} both mean the subset {subset}", "keep one of them")
        if found:
            chosen[subset] = found[0]
    twice = [name for name in set(chosen.values()) if list(chosen.values()).count(name) > 1]
    if twice:
        meant = ", ".join(s for s, n in chosen.items() if n == twice[0])
        raise DataError(f"{twice[0]} can mean {meant}", "name it after one subset")
    return chosen


def folded(name: str) -> str:
    """A name without what writers of file names change."""
    return re.sub(r"[\s_.-]+", "-", name.casefold()).strip("-")


def _is_prefixed(name: str, subset: str, prefixes: Sequence[str]) -> bool:
    """Whether a folded name is a folded subset behind the benchmark's own name, or without it."""
    return any(name.endswith(f"{p}-{subset}") or subset == f"{p}-{name}" for p in map(folded, prefixes))


def _by_id(
    lines: Sequence[OutputLine], samples: Sequence[Sample]
) -> tuple[list[tuple[Sample, OutputLine]], str] | None:
    """The id field that names most samples; None when no id names any.

    An id is trusted where it is a sample's own (`<subset>/<index>`) or stands in a column of the same
    name. Against another column, or the gold, all lines must fit: small numbers fit much by chance.
    """
    best: tuple[list[tuple[Sample, OutputLine]], str] | None = None
    for key in IDS:
        if not all(isinstance(line.values.get(key), (str, int)) for line in lines):
            continue
        for column, known in _names_of(samples).items():
            pairs = [(known[str(line.values[key])], line) for line in lines if str(line.values[key]) in known]
            trusted = column in (OWN_ID, key) or len(pairs) == len(lines)
            if pairs and trusted and (best is None or len(pairs) > len(best[0])):
                best = pairs, f"`{key}`"
    return best


def _names_of(samples: Sequence[Sample]) -> dict[str, dict[str, Sample]]:
    """Column -> name -> sample, for each way to name samples that tells all of them apart."""
    ways: dict[str, dict[str, Sample]] = {OWN_ID: {s.id: s for s in samples}}
    for column in (*IDS, GOLD):
        values = [s.gold if column == GOLD else s.row.get(column) for s in samples]
        if all(isinstance(v, (str, int)) for v in values):
            ways[column] = {str(v): s for v, s in zip(values, samples, strict=True)}
    return {column: way for column, way in ways.items() if len(way) == len(samples)}


def _by_index(lines: Sequence[OutputLine], expected: Expected) -> tuple[list[tuple[Sample, OutputLine]], str] | None:
    """By position in the subset's split; None when lines have no index or several subsets are in one file."""
    values = [line.values.get(INDEX) for line in lines]
    whole = [int(v) for v in values if isinstance(v, int) or (isinstance(v, str) and v.isdecimal())]
    if len(whole) < len(lines) or len({s.subset for s in expected.samples}) > 1:
        return None
    samples = {s.index: s for s in expected.samples}
    if not expected.filtered and whole and max(whole) > max(samples):
        at = whole.index(max(whole))
        raise DataError(
            f"{lines[at].place}: index {whole[at]}, the last row of {expected.what} is {max(samples)}",
            "`index` is the position in the split, counted from 0",
        )
    return [(samples[i], line) for i, line in zip(whole, lines, strict=True) if i in samples], "`index`"


def _by_order(lines: Sequence[OutputLine], expected: Expected, file: str) -> list[tuple[Sample, OutputLine]]:
    for samples in (expected.samples, expected.cut):
        if len(lines) == len(samples):
            return list(zip(samples, lines, strict=True))
    counts = f"{len(expected.samples)} samples"
    if len(expected.cut) != len(expected.samples):
        counts += f", {len(expected.cut)} of them in this run"
    raise DataError(f"{file} has {len(lines)} lines, {expected.what} has {counts}: line order does not fit", ALIGN)
