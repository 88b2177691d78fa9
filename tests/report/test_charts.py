from itertools import pairwise

import pytest

from rslwm.report.charts import Frame, Track, number, spread, ticks
from rslwm.report.palette import inks


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


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.3, 0.31), (12.4, 25.9), (1e-4, 3e-4)])
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low <= tick <= high for tick in found)


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


def test_the_frame_puts_large_values_at_the_top_right():
    frame = Frame((0, 1), (0, 1))
    assert frame.x(1) == frame.width - frame.right
    assert frame.y(1) == frame.top


def test_inks_differ_and_markers_repeat_the_family():
    found = inks(["reconstruction", "semantic", "reconstruction", "semantic", "floor"])
    assert len({ink.light for ink in found}) == len({ink.dark for ink in found}) == 5
    assert [ink.marker for ink in found] == ["s", "o", "s", "o", "^"]
