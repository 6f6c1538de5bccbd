"""From the rows of a data set to samples: computed columns, row filter, gold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evalkit.core import template
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Benchmark, Member, Row, Sample, Template, TurnTemplate
from evalkit.prompts import quirks


def columns(raw: Row, fields: Mapping[str, str], scope: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The columns of one row: `fields` evaluated in order, or the raw columns without `fields`.

    A field sees the raw row, the fields before it, and `scope`; names with a leading
    underscore are temporaries and are left out of the result.
    """
    if not fields:
        return dict(raw)
    values: dict[str, Any] = {**scope, **raw, "row": raw}
    made: dict[str, Any] = {}
    for name, expression in fields.items():
        values[name] = made[name] = template.evaluate(expression, values, f"{what}: field {name!r}")
    return {name: value for name, value in made.items() if not name.startswith("_")}


def gold_of(gold: str, row: Row, raw: Row, scope: Mapping[str, Any], what: str) -> Any:
    """The raw gold: a column, or an expression over the raw row and the columns."""
    if not gold:
        return None
    if gold in row:
        return row[gold]
    return template.evaluate(gold, {**scope, **raw, **row, "row": raw}, f"{what}: gold")


def labels_of(expression: str, row: Row, raw: Row, scope: Mapping[str, Any], what: str) -> tuple[str, ...]:
    """The row's own labels; empty without an expression. ConfigError where it does not give distinct texts."""
    if not expression:
        return ()
    given = template.evaluate(expression, {**scope, **raw, **row, "row": raw}, f"{what}: row_labels")
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(x, (str, int)) for x in given):
        raise ConfigError(f"{what}: row_labels: {given!r} is no list of texts", "row_labels: choices.label")
    labels = tuple(map(str, given))
    if len(set(labels)) < len(labels) or not all(labels):
        raise ConfigError(f"{what}: row_labels: {list(labels)} are not distinct texts", "labels must differ")
    return labels


def template_sources(benchmark: Benchmark) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path of keys in the config, template) of everything that is filled from a scored row."""
    yield from sources_of(("prompt",), benchmark.prompt)
    if benchmark.continuation:
        yield ("continuation",), benchmark.continuation


def sources_of(path: tuple[str, ...], value: Template) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, template) of a text, or of each turn of a list of turns."""
    if isinstance(value, str):
        yield path, value
        return
    for i, part in enumerate(value):
        if isinstance(part, TurnTemplate) and part.source:
            yield (*path, str(i), part.role), part.source


class RowCheck:
    """Whether every row can fill the templates of a benchmark, not only the first one.

    A template that uses its columns bare needs them to be there. One that looks into a column, such as
    `{{ choices[3] }}`, is filled for every row.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.sources = [(".".join(path), source) for path, source in template_sources(benchmark)]
        names = [template.names_in(source) for _, source in self.sources]
        self.needed = sorted(set().union(*names) - template.RESERVED)
        self.filled = [(what, s) for what, s in self.sources if not template.is_bare(s)]
        if quirks.SEQUENTIAL in benchmark.quirks:  # jinja sees the name of a column there, never its value
            self.filled = []
        self.labels = benchmark.labels
        self.first: Row | None = None

    def check(self, row: Row, scope: Mapping[str, Any], labels: Sequence[str] = ()) -> None:
        """ConfigError when this row cannot be rendered. What the first row lacks is the template's own fault."""
        if self.first is None:
            self.first = row
        for name in self.needed:
            if name not in row and name in self.first:
                raise ConfigError(f"the column {name!r} is missing, which the prompt needs", f"has: {', '.join(row)}")
        values = {**row, **scope, "row": row, "shots": "", "shot": ""}
        for what, source in self.filled:
            if row is not self.first:
                for label in labels or self.labels or ("",):
                    template.render(source, {**values, "option": label}, what)


def samples(
    benchmark: Benchmark, member: Member, rows: Iterable[Row], split: str, prefix: str = "", place: str = ""
) -> Iterator[Sample]:
    """The scored samples of one subset, in row order; `place` names where the rows were read, for errors.

    The index counts all rows of the split, those that `where` drops included, so that it names
    the same row in every revision of a filter. DataError at a row that gives no sample or cannot
    fill the templates.
    """
    check = RowCheck(benchmark)
    what = f"{benchmark.name} [{member.name}]"
    subset = prefix + member.name
    for index, raw in enumerate(rows):
        scope = {**member.variables, "subset": member.name, "split": split, "idx": index}
        try:
            row = columns(raw, benchmark.fields, scope, what)
            if benchmark.where and not template.evaluate(benchmark.where, {**scope, **raw, **row}, f"{what}: where"):
                continue
            gold = gold_of(benchmark.gold, row, raw, scope, what)
            labels = labels_of(benchmark.row_labels, row, raw, scope, what)
            check.check(row, scope, labels)
        except ConfigError as error:
            where = f"{what}, {place}, row {index}" if place else f"{what}, row {index}"
            reason = error.message.removeprefix(f"{what}: ")
            raise DataError(f"{where}: {reason}", error.hint or f"columns: {', '.join(raw)}") from error
        variables = {**member.variables, "subset": member.name, "split": split}
        yield Sample(f"{subset}/{index}", subset, index, row, gold, variables, labels)
