"""Heat maps of needle benchmarks: score by length and depth, as PNG and SVG (protocol sheet: needle in a haystack)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.core import stats
from evalkit.core.records import Benchmark, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LENGTH, DEPTH = "length", "depth"
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
        places = {
            f"{benchmark.row}-{member.name}" if len(benchmark.members) > 1 else benchmark.row: (
                float(member.variables[LENGTH]),
                float(member.variables[DEPTH]),
            )
            for member in benchmark.members
            if {LENGTH, DEPTH} <= set(member.variables)
        }
        mine = [s for s in scores if s.benchmark == name]
        metric = next((s.metric for s in mine), "")  # the primary metric comes first
        for model in dict.fromkeys(s.model for s in mine):
            of_model = [s for s in mine if s.model == model and s.metric == metric]
            cells = [s for s in of_model if s.row in places and s.value is not None]
            if cells:
                values = {places[s.row]: s.value for s in cells if s.value is not None}
                note = _note(cells, len(places), _left_out(of_model), limited)
                found.append(Grid(model, benchmark.row, values, note))
    return found


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


def draw(grid: Grid) -> dict[str, bytes]:
    """Format -> the picture; equal grids give equal bytes with the same matplotlib and fonts."""
    import matplotlib.style

    own: Any = {"svg.hashsalt": "evalkit", "font.family": _families(), "text.parse_math": False}
    with matplotlib.style.context("default"), matplotlib.rc_context(own):
        figure = figure_of(grid)
        return {name: _saved(figure, name) for name in FORMATS}


def figure_of(grid: Grid) -> Figure:
    """The picture as matplotlib has it, made without pyplot: nothing that the caller plots is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = _families()
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_drawable(grid.model, families), fontweight="bold")
    axes = figure.add_subplot()
    _cells(figure, axes, grid)
    axes.set_title(_drawable(f"{grid.row}:{grid.overall:.2f}", families))
    if grid.note:
        figure.supxlabel(grid.note, fontsize="medium", color="#B00020")
    _average_line(axes, grid.averages())
    return figure


def _cells(figure: Figure, axes: Axes, grid: Grid) -> None:
    """The coloured grid, its axes and its colour bar."""
    from matplotlib.colors import LinearSegmentedColormap

    lengths, depths = grid.lengths, grid.depths
    values = [[grid.cells.get((length, depth), float("nan")) for length in lengths] for depth in depths]
    colours = LinearSegmentedColormap.from_list("needle", COLOURS)
    picture = axes.imshow(values, cmap=colours, vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes)
    bar.outline.set_visible(False)  # type: ignore[operator]
    axes.set_xlabel("Token Length")
    axes.set_ylabel("Depth Percent(%)")
    axes.set_xticks(range(len(lengths)), labels=[length_label(length, lengths) for length in lengths], rotation=45)
    axes.set_yticks(range(0, len(depths), 2), labels=[f"{depth:g}" for depth in depths[::2]])
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#AAAAAA")  # of absent cells


def length_label(length: float, lengths: Sequence[float]) -> str:
    """Whole thousands as `4k`; the number itself where some length of the grid is not whole thousands."""
    return f"{int(length) // 1000}k" if all(n % 1000 == 0 for n in lengths) else f"{length:g}"


def _average_line(axes: Axes, averages: Sequence[float]) -> None:
    """The mean over depths of each column, on a hidden scale from 0 to 100."""
    twin: Any = axes.twinx()
    twin.plot(range(len(averages)), averages, color="white", marker="o", label="Average Depth Score", clip_on=False)
    behind = {"boxstyle": "round,pad=0.15", "facecolor": DARK, "alpha": 0.5, "linewidth": 0}
    crowded = len(averages) >= WIDE
    for column, value in enumerate(averages):
        below = value > 85  # keeps the number inside the picture
        twin.annotate(
            f"{value:.2f}", (column, value), xytext=(0, -7 if below else 7), textcoords="offset points",
            ha="center", va="top" if below else "bottom", rotation=90 if crowded else 0,
            fontsize="small" if crowded else "medium", color="white", bbox=behind,
        )  # fmt: skip
    twin.set_ylim(0, 100)
    twin.set_yticks([])
    twin.spines[:].set_visible(False)
    legend = twin.legend(loc="lower left", facecolor=DARK, framealpha=0.6, edgecolor="none")
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
