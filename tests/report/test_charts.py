import re
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from planted import INFOS, study
from rslwm.report.charts import inline, spread, tradeoff
from rslwm.report.page import Track, number
from rslwm.report.palette import STYLE, inks
from rslwm.verdict.decide import VerdictConfig, decide


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


def test_labels_keep_their_distance_and_their_order():
    heights = [50.0, 52.0, 10.0, 51.0]
    placed = spread(heights, 14)
    order = sorted(range(4), key=heights.__getitem__)
    assert order == sorted(range(4), key=placed.__getitem__)
    ordered = sorted(placed)
    assert all(below - above >= 14 - 1e-9 for above, below in pairwise(ordered))
    assert sum(placed) == pytest.approx(sum(heights))


def test_inks_differ_and_markers_repeat_the_family():
    found = inks("abcde", ["reconstruction", "semantic", "reconstruction", "semantic", "floor"]).values()
    assert len({ink.light for ink in found}) == len({ink.dark for ink in found}) == 5
    assert [ink.marker for ink in found] == ["s", "o", "s", "o", "^"]


def test_a_chart_on_the_page_takes_its_colours_from_there_and_leaves_numbers_alone():
    skills = {"vae": 0.42, "vjepa": 0.5}
    verdict = decide(study(skills, np.random.default_rng(0), seeds=2), INFOS, VerdictConfig(resamples=100))
    drawn = inks(verdict.spaces, verdict.families)
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        axes = figure.subplots()
        tradeoff(axes, verdict.axes["fidelity"], verdict.axes["planning"], drawn)
        axes.set_xticks([0.125], ["0.125"])
        svg = inline(figure, "planning & more", drawn)
    assert svg.startswith("<svg viewBox=")
    assert "<title>planning &amp; more</title>" in svg
    assert {'data-space="0"', 'data-space="1"', ">0.125<", "var(--ink)", "var(--rule)"} <= set(
        re.findall(r'data-space="\d"|>0\.125<|var\(--ink\)|var\(--rule\)', svg)
    )
    for foreign in ("#0068a8", "<style", "url(", "http", ' id="text', "xlink"):
        assert foreign not in svg
