"""Figures are told once, and drawn, tabled and pointed at from that."""

import csv
import re

import numpy as np
import pytest

from planted import INFOS, study
from rslwm.report.charts import Chart, Matrix, Panel, Series
from rslwm.report.drawing import draw
from rslwm.report.formats import Track, number
from rslwm.report.palette import inks
from rslwm.report.sections.cost import _edge
from rslwm.report.sections.tradeoffs import tradeoff
from rslwm.verdict.decide import VerdictConfig, decide

INKS = inks("ab", ["reconstruction", "semantic"])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_to_the_right_is_better(higher_is_better):
    track = Track.around([0.0, 1.0, None], higher_is_better)
    better, worse = (1.0, 0.0) if higher_is_better else (0.0, 1.0)
    assert 0 < track.at(worse) < track.at(better) < 100
    left, width = track.span(0.2, 0.6)
    assert width > 0
    assert left == pytest.approx(min(track.at(0.2), track.at(0.6)))


def test_a_track_of_one_value_still_has_a_width():
    assert 0 < Track.around([3.0], True).at(3.0) < 100


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [(19.087, 13, "19.1"), (0.6401, 0.5, "0.640"), (-0.5, 1, "−0.50"), (-0.0001, 1, "0.00"), (1234.5, 2000, "1,234")],
)
def test_decimals_follow_the_spread(value, scale, text):
    assert number(value, scale) == text


def test_inks_differ_and_markers_repeat_the_family():
    found = inks("abcde", ["reconstruction", "semantic", "reconstruction", "semantic", "floor"]).values()
    assert len({ink.light for ink in found}) == len({ink.dark for ink in found}) == 5
    assert [ink.marker for ink in found] == ["s", "o", "s", "o", "^"]


def test_a_figure_s_table_has_a_row_for_every_point_and_no_empty_column():
    panel = Panel((Series("a", [1, 2], [0.5, None], [0.4, None], [0.6, None], space="a"), Series("floor", [1], [0.0])))
    chart = Chart("one", "One", (panel,))
    assert [*csv.reader(chart.csv().splitlines())] == [
        ["series", "x", "y", "low", "high"], ["a", "1", "0.5", "0.4", "0.6"], ["a", "2", "", "", ""],
        ["floor", "1", "0.0", "", ""],
    ]  # fmt: skip
    assert (chart.spaces, chart.owners) == (["a"], ["a", "a", ""])


def test_a_point_lies_where_its_spot_says():
    chart = Chart("spots", "", (Panel((Series("a", [0.0, 1.0, 2.0], [0.0, None, 4.0], space="a", line="-"),)),))
    drawn = draw(chart, INKS)
    (first, missing, last), svg = drawn.spots, drawn.inline()
    assert missing is None
    marks = [
        tuple(map(float, at)) for at in re.findall(r'<use href="#[^"]*" x="([\d.]+)" y="([\d.]+)" style="fill', svg)
    ]
    of_the_line = [at for at in marks if at in {(round(x, 2), round(y, 2)) for x, y in marks}]
    for spot in (first, last):
        assert min(np.hypot(x - spot[0], y - spot[1]) for x, y in of_the_line) < 0.2
    assert first[0] < last[0]
    assert first[1] > last[1]  # SVG counts from the top


def test_a_fuller_cell_is_better():
    cells = ([0.0, 1.0],)
    matrix = Matrix(("a",), ("x", "y"), cells, cells, cells, worst=1.0, best=0.0)
    svg = draw(Chart("cells", "", (matrix,)), INKS).inline()
    shares = [float(alpha) for alpha in re.findall(r"fill: var\(--ink\); opacity: ([\d.]+)", svg)]
    assert len(shares) == 2
    assert shares[0] > shares[1]


def test_names_on_y_are_written_once_where_panels_share_them():
    series = (Series("a", [0.1], [0], left=[0.0], right=[0.2], space="a"),)
    alike = Chart("alike", "", tuple(Panel(series, names=("psnr",)) for _ in range(2)), across=2)
    unlike = Chart("unlike", "", (Panel(series, names=("psnr",)), Panel(series, names=("ssim",))), across=2)
    assert draw(alike, INKS).inline().count(">psnr<") == 1
    assert {">psnr<", ">ssim<"} <= set(re.findall(r">\w+<", draw(unlike, INKS).inline()))


def test_a_chart_on_the_page_takes_its_colours_from_there_and_leaves_numbers_alone():
    skills = {"vae": 0.42, "vjepa": 0.5}
    verdict = decide(study(skills, np.random.default_rng(0), seeds=2), INFOS, VerdictConfig(resamples=100))
    panel = tradeoff(verdict.axes["fidelity"], verdict.axes["planning"])
    drawn = draw(Chart("tradeoff", "planning & more", (panel,)), inks(verdict.spaces, verdict.families))
    svg = drawn.inline()
    assert svg.startswith("<svg viewBox=")
    assert {'data-space="0"', 'data-space="1"', "var(--ink)", "var(--rule)"} <= set(
        re.findall(r'data-space="\d"|var\(--ink\)|var\(--rule\)', svg)
    )
    for foreign in ("#0068a8", "<style", "url(", "http", ' id="text', "xlink"):
        assert foreign not in svg
    assert len(drawn.spots) == len(drawn.chart.table()[1]) == 2


def test_both_files_are_written(tmp_path):
    chart = Chart("both", "", (Panel(tuple(Series(s, [1, 2], [0, 1], space=s, line="-") for s in "ab")),))
    draw(chart, INKS).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"both.svg", "both.png"}


def test_nothing_cheaper_equals_what_is_on_the_frontier():
    assert _edge([(3, 0.5), (1, 0.2), (2, 0.6), (2, 0.4), (4, 0.6), (5, 0.7)]) == [(1, 0.2), (2, 0.6), (5, 0.7)]
