"""Heat maps of needle benchmarks: score by length and depth (protocol sheet: needle in a haystack).

PNG and SVG of each model and of all models side by side, and the cells as csv.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.core import stats
from evalkit.core.records import Benchmark, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LENGTH, DEPTH, TOGETHER = "length", "depth", "depths"
COLOURS = ("#F0496E", "#EBB839", "#0CD79F")
"""Of 0, 50 and 100; linear between."""
DARK = "#444444"
"""Behind white text, which is hard to read on yellow."""
SIZE = (7.5, 4.5)
"""Inches."""
DPI = 150
FORMATS = ("png", "svg")
CJK = "Noto Sans CJK"
"""Family of the fonts that Chinese text is drawn with, where one is installed."""
PANEL = 5.0
"""Inches of width of each further model in one picture."""
LOG_SPAN = 16
"""Longest over shortest length from which an axis may be logarithmic."""
DEPTH_RESULT = "Depth"
"""Results called `Depth<percent>` are the cells of benchmarks that have all depths in one prompt."""
LEGEND_SHARE = 15
"""Percent of the picture's height that the legend takes."""
WIDE = 12
"""From this many lengths on, the numbers of the average line are written upright."""


@dataclass(frozen=True)
class Grid:
    """The scores of one model on one benchmark, 0 to 100; cells without a score are absent."""

    model: str
    row: str
    cells: Mapping[tuple[float, float], float]
    """(length in tokens, depth in percent) -> score."""
    note: str = ""
    """What must be said of the numbers: cells or samples that are not there."""

    @property
    def lengths(self) -> list[float]:
        """Tokens, ascending."""
        return sorted({length for length, _ in self.cells})

    @property
    def depths(self) -> list[float]:
        """Percent, ascending."""
        return sorted({depth for _, depth in self.cells})

    def averages(self) -> list[float]:
        """The mean over depths of each length; absent cells are left out."""
        return [stats.mean([v for (length, _), v in self.cells.items() if length == at]) for at in self.lengths]

    @property
    def overall(self) -> float:
        """The mean over lengths of the means over depths."""
        return stats.mean(self.averages())


def grids_of(scores: Sequence[Score], benchmarks: Mapping[str, Benchmark], limited: bool = False) -> list[Grid]:
    """A grid for each model and benchmark whose subsets are lengths and depths.

    `limited` says that the run took a part of the rows.
    """
    found = []
    for name, benchmark in benchmarks.items():
        places = _places(benchmark)
        mine = [s for s in scores if s.benchmark == name]
        metric = next((s.metric for s in mine), "")  # the primary metric comes first
        for model in dict.fromkeys(s.model for s in mine):
            of_model = [s for s in mine if s.model == model]
            cells = [(at, s) for s in of_model if (at := places.get((s.row, "" if s.metric == metric else s.metric)))]
            known = [(at, s) for at, s in cells if s.value is not None]
            if known:
                values: dict[tuple[float, float], list[float]] = {}
                for at, s in known:
                    values.setdefault(at, []).append(s.value or 0.0)
                left_out = _left_out([s for s in of_model if s.metric == metric])
                note = _note([s for _, s in known], len(places), left_out, limited)
                found.append(Grid(model, benchmark.row, {at: stats.mean(v) for at, v in values.items()}, note))
    return found


def _places(benchmark: Benchmark) -> dict[tuple[str, str], tuple[float, float]]:
    """(row, metric; empty: the primary one) -> (length, depth) of the scores that are cells.

    These are the subsets' own results or, where all depths are together in a subset, its results by depth.
    """
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for member in benchmark.members:
        row = f"{benchmark.row}-{member.name}" if len(benchmark.members) > 1 else benchmark.row
        variables = member.variables
        if LENGTH in variables and DEPTH in variables:
            places[row, ""] = (float(variables[LENGTH]), float(variables[DEPTH]))
        for depth in variables.get(TOGETHER, ()) if LENGTH in variables else ():
            places[row, f"{DEPTH_RESULT}{depth:g}"] = (float(variables[LENGTH]), float(depth))
    return places


def _left_out(scores: Sequence[Score]) -> int:
    """Cells that the run leaves out."""
    return max(s.counts.left_out for s in scores)


def _note(cells: Sequence[Score], full: int, left_out: int, limited: bool) -> str:
    """What a reader of the picture must know; empty for a whole grid over all samples."""
    parts = []
    wanted = full + left_out
    if len(cells) < wanted:
        parts.append(f"{len(cells)} of {wanted} cells")
    answered, asked = (sum(getattr(s, key) for s in cells) for key in ("n", "n_expected"))
    if answered < asked:
        parts.append(f"{answered} of {asked} samples")
    return ", ".join([*parts, "limited run"] if limited else parts)


def as_csv(grids: Sequence[Grid]) -> bytes:
    """All cells, a line each: model, row, length in tokens, depth in percent, score."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("model", "row", "length", "depth", "score"))
    for grid in grids:
        for (length, depth), value in sorted(grid.cells.items()):
            writer.writerow((grid.model, grid.row, f"{length:g}" if length < 1e6 else int(length), f"{depth:g}", value))
    return buffer.getvalue().encode()


def side_by_side(grids: Sequence[Grid]) -> dict[str, list[Grid]]:
    """Row -> the grids of its models, for rows with several models."""
    by_row: dict[str, list[Grid]] = {}
    for grid in grids:
        by_row.setdefault(grid.row, []).append(grid)
    return {row: found for row, found in by_row.items() if len(found) > 1}


def draw(*grids: Grid) -> dict[str, bytes]:
    """Format -> the picture, models side by side; equal grids give equal bytes with the same matplotlib and fonts."""
    import matplotlib.style

    own: Any = {"svg.hashsalt": "evalkit", "font.family": _families(), "text.parse_math": False}
    with matplotlib.style.context("default"), matplotlib.rc_context(own):
        figure = figure_of(*grids)
        return {name: _saved(figure, name) for name in FORMATS}


def figure_of(*grids: Grid) -> Figure:
    """The picture as matplotlib has it, made without pyplot: nothing that the caller plots is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families, alone = _families(), len(grids) == 1
    figure = Figure(figsize=(SIZE[0] + PANEL * (len(grids) - 1), SIZE[1]), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(grids), squeeze=False)[0]
    lengths = sorted({length for grid in grids for length in grid.lengths})
    depths = sorted({depth for grid in grids for depth in grid.depths})
    for axes, grid in zip(panels, grids, strict=True):
        mesh = _cells(axes, grid, lengths, depths)
        overall = f"{grid.row}:{grid.overall:.2f}"
        axes.set_title(_drawable(overall if alone else f"{grid.model}\n{overall}", families))
        if grid is grids[-1]:
            bar = figure.colorbar(mesh, ax=axes)
            bar.outline.set_visible(False)  # type: ignore[operator]
        _average_line(axes, grid, lengths)
    if alone:
        figure.suptitle(_drawable(grids[0].model, families), fontweight="bold")
    notes = [grid.note if alone else f"{grid.model}: {grid.note}" for grid in grids if grid.note]
    if notes:
        figure.supxlabel("; ".join(notes), fontsize="medium", color="#B00020")
    return figure


def is_logarithmic(lengths: Sequence[float]) -> bool:
    """Whether lengths grow by factors rather than by steps, over more than `LOG_SPAN`."""
    if len(lengths) < 3 or lengths[-1] < LOG_SPAN * lengths[0]:
        return False
    steps = [b - a for a, b in itertools.pairwise(lengths)]
    factors = [math.log(b / a) for a, b in itertools.pairwise(lengths)]
    return _unevenness(factors) < _unevenness(steps)


def _unevenness(values: Sequence[float]) -> float:
    """The standard deviation over the mean."""
    mean = stats.mean(values)
    return math.sqrt(stats.mean([(v - mean) ** 2 for v in values])) / mean


def columns_of(lengths: Sequence[float]) -> tuple[list[float], list[float]]:
    """(edges of the columns, one more than lengths; their middles): of equal width or, on a logarithmic axis, up to
    half-way (in logarithms) to the neighbours."""
    if not is_logarithmic(lengths):
        return [i - 0.5 for i in range(len(lengths) + 1)], [float(i) for i in range(len(lengths))]
    places = [math.log2(length) for length in lengths]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(places)]
    first, last = 2 * places[0] - middles[0], 2 * places[-1] - middles[-1]
    return [first, *middles, last], places


def _cells(axes: Axes, grid: Grid, lengths: Sequence[float], depths: Sequence[float]) -> Any:
    """The coloured grid and its axes."""
    from matplotlib.colors import LinearSegmentedColormap

    values = [[grid.cells.get((length, depth), float("nan")) for length in lengths] for depth in depths]
    colours = LinearSegmentedColormap.from_list("needle", COLOURS)
    edges, places = columns_of(lengths)
    rows = [i - 0.5 for i in range(len(depths) + 1)]
    mesh = axes.pcolormesh(edges, rows, values, cmap=colours, vmin=0, vmax=100)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(rows[-1], rows[0])  # depth 0 on top
    axes.set_xlabel("Token Length (logarithmic)" if is_logarithmic(lengths) else "Token Length")
    axes.set_ylabel("Depth Percent(%)")
    axes.set_xticks(places, labels=[length_label(length, lengths) for length in lengths], rotation=45)
    axes.set_yticks(range(0, len(depths), 2), labels=[f"{depth:g}" for depth in depths[::2]])
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#AAAAAA")  # of absent cells
    return mesh


def length_label(length: float, lengths: Sequence[float]) -> str:
    """Whole thousands as `4k`; the number itself where some length of the grid is not whole thousands."""
    return f"{int(length) // 1000}k" if all(n % 1000 == 0 for n in lengths) else f"{length:g}"


def _average_line(axes: Axes, grid: Grid, lengths: Sequence[float]) -> None:
    """The mean over depths of each column, on a hidden scale from 0 to 100."""
    place_of = dict(zip(lengths, columns_of(lengths)[1], strict=True))
    places, averages = [place_of[length] for length in grid.lengths], grid.averages()
    twin: Any = axes.twinx()
    twin.plot(places, averages, color="white", marker="o", label="Average Depth Score", clip_on=False)
    behind = {"boxstyle": "round,pad=0.15", "facecolor": DARK, "alpha": 0.5, "linewidth": 0}
    crowded = len(averages) >= WIDE
    for place, value in zip(places, averages, strict=True):
        below = value > 85  # keeps the number inside the picture
        twin.annotate(
            f"{value:.2f}", (place, value), xytext=(0, -7 if below else 7), textcoords="offset points",
            ha="center", va="top" if below else "bottom", rotation=90 if crowded else 0,
            fontsize="small" if crowded else "medium", color="white", bbox=behind,
        )  # fmt: skip
    twin.set_ylim(0, 100)
    twin.set_yticks([])
    twin.spines[:].set_visible(False)
    low = min(averages[: max(1, len(averages) // 2)]) < LEGEND_SHARE  # the legend would cover the line there
    legend = twin.legend(loc="upper left" if low else "lower left", facecolor=DARK, framealpha=0.6, edgecolor="none")
    for text in legend.get_texts():
        text.set_color("white")


def _families() -> list[str]:
    """The font families that text is drawn with, each glyph by the first that has it."""
    from matplotlib import font_manager

    chinese = [name for name in font_manager.get_font_names() if name.startswith(CJK)]
    preferred = sorted(chinese, key=lambda name: (name != f"{CJK} SC", len(name), name))
    return ["DejaVu Sans", *preferred[:1]]  # the first comes with matplotlib


def _drawable(text: str, families: Sequence[str]) -> str:
    """The text with `\\uXXXX` for what no font has, which would come out as empty boxes."""
    from matplotlib import font_manager

    known: set[int] = set()
    for family in families:
        known |= set(font_manager.get_font(font_manager.findfont(family)).get_charmap())
    return "".join(c if ord(c) in known else c.encode("ascii", "backslashreplace").decode() for c in text)


def _saved(figure: Figure, name: str) -> bytes:
    """The file, without the date and the program that made it."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if name == "svg" else {"Software": None}
    figure.savefig(buffer, format=name, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
