"""Heat maps: their numbers, their axes, their files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evalkit.core.records import Counts, Score
from evalkit.report import heatmap
from evalkit.report.heatmap import Grid, draw, figure_of, grids_of, length_label
from tests import helpers
from tests.report import fabricate

DATASET = "needle_single_en_4k:L1000D0,L1000D52,L2000D0,L2000D52"
GRID = Grid("m", "needle", {(1000, 0): 100.0, (1000, 50): 0.0, (2000, 0): 40.0})


def test_averages_skip_what_is_missing() -> None:
    """The overall score is the mean of the columns' means, not of the cells."""
    assert GRID.lengths == [1000, 2000] and GRID.depths == [0, 50]
    assert GRID.averages() == [50.0, 40.0] and GRID.overall == 45.0


def test_labels() -> None:
    assert [length_label(n, [1000, 200000]) for n in (1000, 200000)] == ["1k", "200k"]
    assert [length_label(n, [256, 1000]) for n in (256, 1000)] == ["256", "1000"]


def cell(member: str, value: float | None, model: str = "m", **more: object) -> Score:
    benchmark = fabricate.benchmark("needle_single_en_4k")
    row = f"{benchmark.row}-{member}"
    made = fabricate.score(benchmark, value, model, metric="score", level="subset", **more)
    return replace(made, row=row)


def test_grids_of_scores() -> None:
    benchmark = fabricate.benchmark("needle_single_en_4k")
    head = fabricate.score(benchmark, None, metric="score", counts=Counts())
    cells = [cell("L1000D0", 100.0), cell("L1000D5", 50.0, n=90), cell("L2000D0", None, n=0)]
    other = [cell("L1000D0", 1.0, model="x"), fabricate.score(benchmark, 1.0, "x", metric="score")]
    found = grids_of([head, *cells, *other], {benchmark.name: benchmark})
    assert [g.model for g in found] == ["m", "x"]
    assert found[0].cells == {(1000, 0): 100.0, (1000, 5): 50.0}
    assert found[0].note == "2 of 80 cells, 190 of 200 samples"
    assert "limited run" in grids_of([head, *cells], {benchmark.name: benchmark}, limited=True)[0].note
    gsm8k = fabricate.benchmark("gsm8k")
    assert grids_of([fabricate.score(gsm8k, 1.0)], {gsm8k.name: gsm8k}) == []


def texts(svg: bytes) -> str:
    """The comments in front of drawn texts, which matplotlib writes for each."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.fromstring(svg, parser=parser)
    return "\n".join(str(e.text).strip() for e in root.iter() if e.tag is ElementTree.Comment)


def test_the_picture_has_what_the_sheet_asks_for() -> None:
    cells = {(length, depth): 90.0 - length / 1000 for length in (1000, 2000) for depth in (0, 5, 10, 15)}
    figure = figure_of(Grid("my-model", "needle", cells))
    axes, bar, line = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Token Length", "Depth Percent(%)")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1k", "2k"]
    assert {t.get_rotation() for t in axes.get_xticklabels()} == {45.0}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "10"], "every second depth"
    assert figure.get_suptitle() == "my-model" and axes.get_title() == "needle:88.50"
    assert (bar.get_ylim(), line.get_ylim()) == ((0, 100), (0, 100)) and line.get_yticks().size == 0
    (drawn,) = line.get_lines()
    assert [list(d) for d in drawn.get_data()] == [[0, 1], [89.0, 88.0]]
    assert (drawn.get_marker(), drawn.get_color()) == ("o", "white")
    assert [t.get_text() for t in line.texts] == ["89.00", "88.00"]
    legend = line.get_legend()
    assert legend is not None and [t.get_text() for t in legend.get_texts()] == ["Average Depth Score"]
    assert not any(spine.get_visible() for ax in (axes, line) for spine in ax.spines.values())
    assert "needle:88.50" in texts(draw(Grid("my-model", "needle", cells))["svg"]).splitlines()


def pixels(png: bytes) -> object:
    from matplotlib import image

    return (image.imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)


@pytest.mark.parametrize(("value", "colour"), [(0.0, "#F0496E"), (50.0, "#EBB839"), (100.0, "#0CD79F")])
def test_colours_have_a_fixed_range(value: float, colour: str) -> None:
    """A grid of one value is one colour: that of the value, not of the range of the grid."""
    png = draw(Grid("m", "needle", {(1000 * n, d): value for n in (1, 2, 3) for d in (0, 50, 100)}))["png"]
    picture: object = pixels(png)
    height, width, _ = picture.shape  # type: ignore[attr-defined]
    assert (width, height) == (1125, 675), "7.5 x 4.5 inches"
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    found = picture[int(height * 0.62), int(width * 0.3)]  # type: ignore[index]
    assert max(abs(int(a) - b) for a, b in zip(found, wanted, strict=True)) <= 3, found


def test_depth_0_is_at_the_top() -> None:
    grid = Grid("m", "needle", {(length, depth): 100.0 * (depth == 0) for length in (1000, 2000) for depth in (0, 100)})
    picture: object = pixels(draw(grid)["png"])
    top, bottom = picture[160, 250], picture[400, 250]  # type: ignore[index]
    assert top[1] > 180 > 120 > bottom[1] and bottom[0] > 200


def test_equal_grids_give_equal_files() -> None:
    assert draw(GRID) == draw(GRID)
    assert b"<dc:date>" not in draw(GRID)["svg"]


def test_the_callers_settings_do_not_matter() -> None:
    import matplotlib

    plain = draw(GRID)
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30}):
        assert draw(GRID) == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_no_empty_boxes_without_a_font(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(heatmap, "CJK", "no such font")
    said = texts(draw(Grid("书生", "$x_1$ 长文", {(1000, 0): 1.0}))["svg"])
    assert r"\u4e66\u751f" in said and r"$x_1$ \u957f\u6587:1.00" in said
    assert not caplog.records


def test_chinese_is_drawn_with_a_font_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a font made here of that family, whose only glyph is 书."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 900)), (pen.lineTo, (900, 900))):
        move(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "book"])
    builder.setupCharacterMap({ord("书"): "book"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "book": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "book": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Noto Sans CJK SC", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, usWinAscent=900, usWinDescent=100)
    builder.setupPost()
    builder.save(tmp_path / "font.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "font.ttf")
    assert heatmap._families()[1] == "Noto Sans CJK SC"
    said = texts(draw(Grid("书生", "needle", {(1000, 0): 1.0}))["svg"])
    assert "书" in said.replace("\\u751f", "")


def test_written_with_the_report_and_again(tmp_path: Path, tiny_model: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    args = ("--config-dir", tmp_path / "c", "--models", "m", "--data-root", "samples", "--tokenizer", tiny_model)
    done = helpers.run(*args, "--datasets", DATASET, "--work-dir", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert "4 of 80 subsets" in done.stdout, "a part of a grid is no grid"
    report = helpers.run_folder(tmp_path / "work") / "report"
    files = {name: report / f"heatmap_m_needle_single_en_4k.{name}" for name in ("png", "svg")}
    before = {name: file.read_bytes() for name, file in files.items()}
    assert before["png"].startswith(b"\x89PNG") and "4 of 80 cells" in texts(before["svg"])
    scores = json.loads((report.parent / "scores" / "scores.json").read_text())["scores"]
    assert f"needle_single_en_4k:{scores[0]['value']:.2f}" in texts(before["svg"])
    files["png"].unlink()
    files["svg"].write_text("")
    assert helpers.run("score", report.parent).returncode == 0
    assert {name: file.read_bytes() for name, file in files.items()} == before


def test_other_runs_never_import_matplotlib(tmp_path: Path) -> None:
    helpers.fake_model(tmp_path / "c", "m")
    code = (
        "import sys, evalkit\n"
        "evalkit.evaluate('m', ['gsm8k'], data_root='samples', config_dirs=(sys.argv[1],), work_dir=sys.argv[2],"
        " limit=2, debug=True)\n"
        "assert 'evalkit.report.heatmap' in sys.modules and 'matplotlib' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "c"), str(tmp_path / "work")]
    done = subprocess.run(
        command, cwd=helpers.ROOT, env=helpers.environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_cells_of_benchmarks_with_all_depths_in_one_prompt() -> None:
    """Retrieval: the results by depth are the cells."""
    benchmark = fabricate.benchmark("needlebench_retrieval_en_4k")
    head = fabricate.score(benchmark, 50.0, metric="score", counts=Counts())
    cells = [
        replace(fabricate.score(benchmark, value, metric=f"Depth{depth}", level="subset"), row=f"{benchmark.row}-L{n}")
        for n in (1000, 2000)
        for depth, value in ((0, 100.0), (5, n / 100))
    ]
    (grid,) = grids_of([head, *cells], {benchmark.name: benchmark})
    assert grid.cells == {(1000, 0): 100, (1000, 5): 10, (2000, 0): 100, (2000, 5): 20}


def test_subsets_that_differ_in_something_else_share_a_cell() -> None:
    """Reasoning: a cell is the mean over the numbers of needles."""
    benchmark = fabricate.benchmark("needlebench_reasoning_en_4k")
    head = fabricate.score(benchmark, 50.0, metric="score", counts=Counts())
    cells = [
        replace(head, value=10.0 * count, row=f"{benchmark.row}-L1000D0N{count}", level="subset")
        for count in (2, 3, 4, 5)
    ]  # fmt: skip
    (grid,) = grids_of([head, *cells], {benchmark.name: benchmark})
    assert grid.cells == {(1000, 0): 35.0}


def test_lengths_that_grow_by_factors_have_a_logarithmic_axis() -> None:
    assert heatmap.is_logarithmic([1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000])
    assert not heatmap.is_logarithmic([16000, 48000, 80000, 112000, 128000, 144000, 176000, 200000])
    assert not heatmap.is_logarithmic([1000, 125000, 250000, 375000, 500000, 625000, 750000, 875000, 1000000])
    assert not heatmap.is_logarithmic([1000, 2000, 4000]) and not heatmap.is_logarithmic([1000])
    edges, places = heatmap.columns_of([1000, 4000, 16000, 1024000])
    assert places == pytest.approx([places[0], places[0] + 2, places[0] + 4, places[0] + 10])
    assert edges == pytest.approx([places[0] - 1, places[0] + 1, places[0] + 3, places[0] + 7, places[0] + 13])
    cells = {(float(n), float(d)): 50.0 for n in (1000, 4000, 16000, 1024000) for d in (0, 50)}
    axes = figure_of(Grid("m", "needle", cells)).axes[0]
    assert axes.get_xlabel() == "Token Length (logarithmic)"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1k", "4k", "16k", "1024k"]


def test_models_side_by_side_and_csv() -> None:
    """One panel a model over the same lengths and depths; absent cells stay grey."""
    other = Grid("x", "needle", {(1000, 0): 10.0, (4000, 100): 30.0}, "2 of 4 cells")
    apart = Grid("m", "else", {(1000, 0): 1.0})
    assert heatmap.side_by_side([GRID, other, apart]) == {"needle": [GRID, other]}
    figure = figure_of(GRID, other)
    panels = [axes for axes in figure.axes if axes.get_xlabel() == "Token Length"]
    assert [axes.get_title() for axes in panels] == ["m\nneedle:45.00", "x\nneedle:20.00"]
    assert {tuple(t.get_text() for t in axes.get_xticklabels()) for axes in panels} == {("1k", "2k", "4k")}
    assert figure.get_size_inches()[0] > figure_of(GRID).get_size_inches()[0]
    assert set(draw(GRID, other)) == {"png", "svg"}
    lines = heatmap.as_csv([GRID, Grid("x", "needle", {(1000000, 33.5): 1.25})]).decode().splitlines()
    assert lines == ["model,row,length,depth,score", "m,needle,1000,0,100.0", "m,needle,1000,50,0.0",
                     "m,needle,2000,0,40.0", "x,needle,1000000,33.5,1.25"]  # fmt: skip
