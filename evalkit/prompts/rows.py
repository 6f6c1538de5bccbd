"""From the rows of a data set to samples: computed columns, row filter, gold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from evalkit.core import template
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.records import Benchmark, Member, Row, Sample


def columns(raw: Row, fields: Mapping[str, str], scope: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The columns of one row: `fields` evaluated in order, or the raw columns without `fields`.

    A field sees the raw row, the fields in front of it, and `scope`; names with a leading
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


def samples(
    benchmark: Benchmark, member: Member, rows: Iterable[Row], split: str, prefix: str = ""
) -> Iterator[Sample]:
    """The scored samples of one subset, in row order.

    The index counts all rows of the split, those that `where` drops included, so that it names
    the same row in every revision of a filter.
    """
    what = f"{benchmark.name} [{member.name}]"
    subset = prefix + member.name
    for index, raw in enumerate(rows):
        scope = {**member.variables, "subset": member.name, "split": split, "idx": index}
        try:
            row = columns(raw, benchmark.fields, scope, what)
            if benchmark.where and not template.evaluate(benchmark.where, {**scope, **raw, **row}, f"{what}: where"):
                continue
            gold = gold_of(benchmark.gold, row, raw, scope, what)
        except ConfigError as error:
            raise DataError(f"row {index}: {error.message}", error.hint or f"columns: {', '.join(raw)}") from error
        yield Sample(
            f"{subset}/{index}", subset, index, row, gold, {**member.variables, "subset": member.name, "split": split}
        )
