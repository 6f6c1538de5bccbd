"""Charts as SVG, drawn with the classes of the style sheet so that they follow the theme.

Every chart stands beside its numbers, or says them in its title, for those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

SHAPES = ("circle", "square", "diamond", "triangle")
"""Of the columns in turn, besides their colours."""
WIDTH, HEIGHT = 340, 26
"""Of a dot plot in a table, in units of its own."""
CHART_WIDTH, CHART_HEIGHT, LEFT, BOTTOM, TOP = 420, 190, 40, 34, 10
MOST_BINS = 10


@dataclass(frozen=True)
class Dot:
    """A value with its interval in a dot plot, 0 to 100."""

    column: int
    """Number that decides colour and shape."""
    value: float
    low: float
    high: float
    title: str


def marker(column: int, x: float, y: float, size: float = 4.0) -> Markup:
    """The mark of a column."""
    shape = SHAPES[column % len(SHAPES)]
    names = f"mark col{column % 8}"
    if shape == "circle":
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(names, x, y, size)
    r = size * 0.9 if shape == "square" else size * 1.25
    corners = {
        "square": [(-r, -r), (r, -r), (r, r), (-r, r)],
        "diamond": [(0, -r), (r, 0), (0, r), (-r, 0)],
        "triangle": [(0, -r), (r, 0.8 * r), (-r, 0.8 * r)],
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return Markup('<polygon class="{}" points="{}"/>').format(names, points)


def key(column: int) -> Markup:
    """A column's mark alone, for legends."""
    return Markup('<svg class="key" viewBox="0 0 12 12" aria-hidden="true">{}</svg>').format(marker(column, 6, 6))


def dot_plot(dots: Sequence[Dot], reference: float | None = None) -> Markup:
    """The dots of one row on a scale from 0 to 100, a reference value as a line."""
    if not dots:
        return Markup("")
    step = min(9.0, 18.0 / len(dots))
    parts = [
        Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="1" y2="{1}"/>').format(_x(v), HEIGHT - 1)
        for v in (0, 25, 50, 75, 100)
    ]
    if reference is not None and 0 <= reference <= 100:
        parts.append(
            Markup('<line class="reference" x1="{0:.1f}" x2="{0:.1f}" y1="1" y2="{1}"/>').format(
                _x(reference), HEIGHT - 1
            )
        )
    for number, dot in enumerate(dots):
        y = HEIGHT / 2 + (number - (len(dots) - 1) / 2) * step
        line = Markup('<line class="span col{}" x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(line.format(dot.column % 8, _x(dot.low), _x(dot.high), y=y))
        parts.append(marker(dot.column, _x(dot.value), y, 3.8))
    title = "; ".join(dot.title for dot in dots)
    return Markup('<svg class="dots" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        WIDTH, HEIGHT, title, title, Markup("").join(parts)
    )


def _x(value: float) -> float:
    return 6 + (WIDTH - 12) * min(100.0, max(0.0, value)) / 100


@dataclass(frozen=True)
class Series:
    """One column's values in a chart."""

    column: int
    values: Sequence[float | None]
    """One for each place on the x axis; None: nothing there."""


def bars(labels: Sequence[str], series: Sequence[Series], title: str, x_label: str, y_label: str) -> Markup:
    """Grouped bars; values are not negative."""
    top = max((v for s in series for v in s.values if v is not None), default=0.0) or 1.0
    slot = (CHART_WIDTH - LEFT - 6) / max(1, len(labels))
    width = min(26.0, slot * 0.8 / max(1, len(series)))
    parts = []
    for number, s in enumerate(series):
        for place, value in enumerate(s.values):
            if value:
                x = LEFT + slot * (place + 0.5) + (number - len(series) / 2) * width
                height = (CHART_HEIGHT - BOTTOM - TOP) * value / top
                parts.append(
                    Markup(
                        '<rect class="bar col{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                        "<title>{}: {}</title></rect>"
                    ).format(
                        s.column % 8, x, CHART_HEIGHT - BOTTOM - height, max(1.0, width - 1), height,
                        labels[place], _number(value),
                    )
                )  # fmt: skip
    ticks = [(LEFT + slot * (i + 0.5), label) for i, label in enumerate(labels)]
    return _frame(parts, ticks, top, title, x_label, y_label)


def points(labels: Sequence[str], series: Sequence[Series], title: str, x_label: str, y_label: str) -> Markup:
    """Marks joined by lines, values from 0 to 100."""
    slot = (CHART_WIDTH - LEFT - 6) / max(1, len(labels))
    parts = []
    for s in series:
        at = [
            (LEFT + slot * (i + 0.5), CHART_HEIGHT - BOTTOM - (CHART_HEIGHT - BOTTOM - TOP) * v / 100)
            for i, v in enumerate(s.values)
            if v is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(Markup('<polyline class="line col{}" points="{}"/>').format(s.column % 8, path))
        parts += [marker(s.column, x, y) for x, y in at]
    ticks = [(LEFT + slot * (i + 0.5), label) for i, label in enumerate(labels)]
    return _frame(parts, ticks, 100.0, title, x_label, y_label)


def _frame(
    parts: Iterable[Markup], ticks: Sequence[tuple[float, str]], top: float, title: str, x_label: str, y_label: str
) -> Markup:
    """Axes and labels around a chart."""
    floor, inner = CHART_HEIGHT - BOTTOM, CHART_HEIGHT - BOTTOM - TOP
    axes = []
    for share in (0.0, 0.5, 1.0):
        y = floor - inner * share
        axes.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>').format(LEFT, CHART_WIDTH - 4, y=y)
        )
        axes.append(
            Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                LEFT - 5, y + 4, _number(top * share)
            )
        )
    every = max(1, math.ceil(sum(len(label) + 2 for _, label in ticks) * 6.2 / (CHART_WIDTH - LEFT)))
    axes += [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x, floor + 14, label)
        for number, (x, label) in enumerate(ticks)
        if number % every == 0
    ]
    axes.append(
        Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + CHART_WIDTH) / 2, CHART_HEIGHT - 4, x_label
        )
    )
    return Markup(
        '<figure class="chart"><figcaption>{}<span class="muted"> {}</span></figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg></figure>'
    ).format(
        title, y_label, CHART_WIDTH, CHART_HEIGHT, f"{title}, {y_label}", Markup("").join(axes), Markup("").join(parts)
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.3g}"


def length_bins(columns: Sequence[Sequence[int]]) -> tuple[list[str], list[list[float]]]:
    """(labels, counts of each column) in bins of equal width of tokens, a round number."""
    longest = max((n for lengths in columns for n in lengths), default=0)
    width = _round_up((longest + 1) / MOST_BINS)
    count = longest // width + 1
    totals = [[0.0] * count for _ in columns]
    for total, lengths in zip(totals, columns, strict=True):
        for n in lengths:
            total[n // width] += 1
    return [f"{i * width}" if width == 1 else f"{i * width}–{(i + 1) * width - 1}" for i in range(count)], totals


def _round_up(width: float) -> int:
    """The next of 1, 2, 5, 10, 20, …"""
    if width <= 1:
        return 1
    scale = 10 ** math.floor(math.log10(width))
    return next(int(step * scale) for step in (1, 2, 5, 10) if step * scale >= width)


def by_margin(pairs: Sequence[tuple[float, float]], bins: int = MOST_BINS) -> list[tuple[float, float, int]]:
    """(mean margin, mean value in percent, n) of samples in bins of equal number, the smallest margins first."""
    ordered = sorted(pairs)
    count = min(bins, max(1, len(ordered) // 20))
    edges = [round(i * len(ordered) / count) for i in range(count + 1)]
    parts = [ordered[a:b] for a, b in pairwise(edges) if b > a]
    return [(math.fsum(m for m, _ in p) / len(p), 100 * math.fsum(v for _, v in p) / len(p), len(p)) for p in parts]
