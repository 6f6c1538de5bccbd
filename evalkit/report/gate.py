"""The gate: each row of a run inside its band around a reference value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from xml.etree import ElementTree

from evalkit.configs.catalog import expand
from evalkit.core import stats
from evalkit.core.errors import ConfigError
from evalkit.core.records import Kind, Score
from evalkit.core.registry import did_you_mean
from evalkit.report.bindings import Binding
from evalkit.report.reference import Entry, Reference, as_number, column_of, named_column, same_row
from evalkit.report.tables import printable

DEFAULT_TOLERANCE = 1.0
"""Points; about two samples of the smallest published benchmarks (HumanEval has 164)."""
ROUNDING = 1e-9
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

PASS, OFF, MISSING, FAILED = "pass", "off", "missing", "failed"
PARTIAL, CHANGED, NO_VALUE = "partial", "changed", "no value"
HARMLESS = (PASS, NO_VALUE)


@dataclass(frozen=True)
class Band:
    """How far a score may be off: points, standard errors, or the wider of the two."""

    tolerance: float | None = None
    z: float | None = None

    def of(self, entry: Entry) -> Band:
        """The band of a line: this one if it says anything, else the line's own, else the default."""
        given = [b for b in (self, Band(entry.tolerance, entry.z)) if b != Band()]
        return given[0] if given else Band(DEFAULT_TOLERANCE)

    def width(self, expected: float, n: int) -> float:
        """Points; the standard error is that of a share of `expected` percent measured on n samples."""
        if self.z is None:
            return self.tolerance or 0.0
        if not 0 <= expected <= 100:
            raise ConfigError(f"{expected} is no percentage: it has no standard error", "give --tolerance for it")
        return max(self.tolerance or 0.0, self.z * 100 * stats.proportion_error(expected / 100, n))


@dataclass(frozen=True)
class Check:
    """One line of the gate's table."""

    row: str
    model: str
    version: str
    expected: float | None
    got: float | None
    band: float | None
    """Points."""
    verdict: str
    why: str = ""
    """What is wrong, or what must be said beside a pass."""

    @property
    def ok(self) -> bool:
        """Whether this line lets the gate pass."""
        return self.verdict in HARMLESS

    @property
    def diff(self) -> float | None:
        """Got minus expected, in points."""
        return None if self.got is None or self.expected is None else self.got - self.expected


def columns_for(models: Sequence[str], table: Reference, column: str, where: str) -> dict[str, str]:
    """Model -> the column that it is held against; ConfigError for a model without one."""
    if column:
        return dict.fromkeys(models, named_column(column, table.columns, where))
    found = {model: column_of(model, table.columns) for model in models}
    without = [model for model, own in found.items() if not own]
    if without:
        raise ConfigError(
            f"{where} has no column for {', '.join(without)}",
            f"name it with --reference-column, or leave models out with --models; columns: {', '.join(table.columns)}",
        )
    return found


def choose_rows(table: Reference, patterns: Sequence[str]) -> tuple[Entry, ...]:
    """The lines whose rows the patterns match, all without a pattern; ConfigError when one matches none."""
    names = list(dict.fromkeys(e.row for e in table.entries))
    for pattern in patterns:
        if not expand(pattern, names):
            raise ConfigError(f"no row of the table is {pattern!r}", did_you_mean(pattern, names))
    chosen = {name for p in patterns for name in expand(p, names)} if patterns else set(names)
    return tuple(e for e in table.entries if e.row in chosen)


def primary_scores(scores: Sequence[Score], model: str) -> list[Score]:
    """A model's rows, each version of a row with its primary metric, which comes first."""
    return _one_a_version([s for s in scores if s.model == model])


def _one_a_version(of_model: Sequence[Score]) -> list[Score]:
    """The first metric of each version of a row."""
    found: dict[tuple[str, str, str], Score] = {}
    for score in of_model:
        found.setdefault((score.row, score.version, score.mode), score)
    return list(found.values())


def headlines(scores: Sequence[Score], model: str) -> list[Score]:
    """A model's rows that stand for a benchmark, each version with its primary metric."""
    return primary_scores([s for s in scores if s.level == "headline"], model)


def check_run(
    scores: Sequence[Score],
    columns: Mapping[str, str],
    entries: Sequence[Entry],
    band: Band,
    limited: Mapping[str, str] | None = None,
    bindings: Mapping[str, Binding] | None = None,
    kinds: Mapping[str, Kind] | None = None,
) -> list[Check]:
    """A check for every value of the lines, for each model; a row that was not run is `missing`.

    `limited` says of a benchmark why its scores are over fewer rows than it has (`--limit`). `bindings` says
    which rows of ours the lines' are: of several versions those by the config that was published for the
    model's kind are held against it (`kinds`; base where it says nothing), else all, with a remark.
    ConfigError when a model has nothing to be compared with.
    """
    checks: list[Check] = []
    for model, column in columns.items():
        of_model = [s for s in scores if s.model == model]
        kind: Kind = (kinds or {}).get(model, "base")
        found = []
        for entry in (e for e in entries if column in e.values):
            meant = _meant(entry, of_model, (bindings or {}).get(entry.row), kind)
            found += list(_of_entry(entry, column, model, meant, band, limited or {}))
        if all(check.verdict == NO_VALUE for check in found):
            hint = "choose others with --reference-column, --models or --rows"
            raise ConfigError(f"the table's column {column!r} has no number for {model}", hint)
        checks += found
    return checks


def _meant(entry: Entry, of_model: Sequence[Score], binding: Binding | None, kind: Kind) -> list[Score]:
    """The scores of a model that a line speaks of, one a version; what is doubtful of one becomes its issue."""
    if binding is None:
        own = _one_a_version(of_model)
        found = [s for s in own if s.row == entry.row] or [s for s in own if same_row(entry.row, s.row)]
    else:
        found = binding.preferred(_one_a_version([s for s in of_model if binding.fits(s)]), kind)
        doubts = [binding.doubt(s, kind) for s in found]
        found = [replace(s, issues=(*s.issues, d)) if d else s for s, d in zip(found, doubts, strict=True)]
    return [s for s in found if s.version == entry.version] or found


def _of_entry(
    entry: Entry, column: str, model: str, found: Sequence[Score], band: Band, limited: Mapping[str, str]
) -> Iterator[Check]:
    expected = as_number(entry.values[column])
    if expected is None:
        why = f"the table says {entry.values[column]!r}"
        yield Check(entry.row, model, "", None, found[0].value if found else None, None, NO_VALUE, why)
    elif not found:
        yield Check(entry.row, model, entry.version, expected, None, None, MISSING, "the run has no such row")
    else:
        for score in found:
            width = band.of(entry).width(expected, entry.n or _samples(score))
            verdict, why = _judge(entry, score, expected, width, limited.get(score.benchmark, ""))
            yield Check(entry.row, model, score.version, expected, score.value, width, verdict, why)


def _judge(entry: Entry, score: Score, expected: float, width: float, limited: str) -> tuple[str, str]:
    """(verdict, why): first whether the number can be compared at all, then whether it is inside."""
    if score.value is None:
        return FAILED, score.flag or "no number"
    if score.n < score.n_expected:
        return PARTIAL, f"{score.n} of {score.n_expected} samples answered"
    if entry.n is not None and entry.n != score.n:
        return PARTIAL, f"over {score.n} samples, the table's over {entry.n}"
    if entry.n is None and (limited or score.counts.left_out):
        return PARTIAL, "; ".join(filter(None, [limited, score.flag]))
    if entry.version and entry.version != score.version:
        return CHANGED, f"version {score.version}, the table's {entry.version}: prompt, data, extraction or metric"
    if not abs(score.value - expected) <= width + ROUNDING:
        gap = f"{score.value - expected:+.2f} is more than {width:.2f}"
        doubts = [issue.text for issue in score.issues if issue.kind == "other_config"]
        return OFF, "; ".join([gap, *doubts])
    return PASS, score.flag


def _samples(score: Score) -> int:
    """The samples that a score was to be over: `n_expected` counts their draws."""
    return round(score.n_expected * score.n_samples / score.n) if score.n and score.n_samples else score.n_expected


def as_text(checks: Sequence[Check]) -> str:
    """A line a check, and how many there are of each verdict."""
    from tabulate import tabulate

    rows = [[*map(printable, (c.row, c.model, c.version or "-")), *_numbers(c), printable(_told(c))] for c in checks]
    head = ["row", "model", "version", "expected", "got", "diff", "band", "verdict"]
    align = ["left"] * 3 + ["right"] * 4 + ["left"]
    grid = tabulate(rows, head, tablefmt="simple", colalign=align, disable_numparse=True)
    counts = {v: sum(c.verdict == v for c in checks) for v in dict.fromkeys(c.verdict for c in checks)}
    return f"{grid}\n{len(checks)} checks: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}\n"


def _numbers(check: Check) -> list[str]:
    return [_points(check.expected), _points(check.got), _points(check.diff, "+.2f"), _points(check.band)]


def _points(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:{form}}"


def as_junit(checks: Sequence[Check], name: str) -> str:
    """The checks as a JUnit test suite: a case a line, the model as its class."""
    failed, skipped = ([c for c in checks if wanted(c)] for wanted in (lambda c: not c.ok, _is_skipped))
    counts = {"tests": len(checks), "failures": len(failed), "errors": 0, "skipped": len(skipped)}
    numbers = {"name": NOT_XML.sub("", name), **{k: str(v) for k, v in counts.items()}, "time": "0"}
    root = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(root, "testsuite", numbers)
    rows = [(c.row, c.model) for c in checks]
    for check in checks:
        version = f" [{check.version}]" if rows.count((check.row, check.model)) > 1 else ""
        case = ElementTree.SubElement(suite, "testcase", classname=check.model, name=check.row + version, time="0")
        told = NOT_XML.sub("", _told(check))
        if not check.ok:
            failure = ElementTree.SubElement(case, "failure", type=check.verdict, message=told)
            failure.text = f"expected {_points(check.expected)}, got {_points(check.got)}, band {_points(check.band)}"
        elif _is_skipped(check):
            ElementTree.SubElement(case, "skipped", message=told)
        else:
            ElementTree.SubElement(case, "system-out").text = told
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _told(check: Check) -> str:
    return f"{check.verdict}: {check.why}" if check.why else check.verdict


def _is_skipped(check: Check) -> bool:
    return check.verdict == NO_VALUE
