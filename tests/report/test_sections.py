"""A section is there where its metrics were measured, and shows them."""

from types import SimpleNamespace

import numpy as np
import pytest

from rslwm.evals.attribution import ACTIONS, MAP
from rslwm.evals.geometry import KEPT
from rslwm.evals.rows import Rows
from rslwm.report.run import Run
from rslwm.report.sections import attribution, calibration, closed_loop, counterfactuals, geometry, rollouts, sections
from rslwm.verdict.decide import Verdict, VerdictConfig, decide

EPISODES = [f"episode {i}" for i in range(8)]


def rows(info, k, dim, value, target=np.nan, latent="a"):
    family = "semantic" if latent == "a" else "reconstruction"
    column = np.arange(len(EPISODES))
    return Rows.broadcast(
        latent=latent, family=family, size="", seed=0, metric=info.name, axis=info.axis, split="test",
        unit=np.array(EPISODES), k=k, value=np.broadcast_to(value, column.shape).astype(float),
        higher_is_better=info.higher_is_better, target=np.asarray(target, float), window=column, dim=dim, role="value",
    )  # fmt: skip


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    """Space a keeps half of the gripper near contact and all of it far away; b keeps a quarter. Actions are told by one
    direction in a, and in its lower left corner."""
    truth, parts = np.linspace(-1, 1, len(EPISODES)), []
    for latent, near, far in (("a", 0.5, 1.0), ("b", 0.25, 0.25)):
        for k in (1, 2):
            parts.append(rows(KEPT, k, "near gripper", near, 1.0, latent))
            parts.append(rows(KEPT, k, "far gripper", far, 1.0, latent))
        for kind in ("actions", "random", "variance"):
            for k in (0, 1, 2):
                left = 0.0 if kind == "actions" and k else 1.0
                parts.append(rows(ACTIONS, k, kind, left * truth, truth, latent))
        for place in ("0,0", "0,1", "1,0", "1,1"):
            parts.append(rows(MAP, 0, place, 0.8 if place == "1,0" else 0.0, latent=latent))
    return decide(
        Rows.concatenate(parts), {info.name: info for info in (KEPT, ACTIONS, MAP)}, VerdictConfig(resamples=50)
    )


def test_a_metric_s_dimensions_have_intervals(verdict: Verdict):
    kept = next(metric for metric in verdict.metrics if metric.info == KEPT)
    cell = kept.cells["near gripper"][2]
    bar = kept.bars[0]
    assert bar.by_dim.low[cell] == bar.by_dim.value[cell] == bar.by_dim.high[cell] == pytest.approx(0.5)


def run(verdict: Verdict) -> Run:
    return Run(verdict, SimpleNamespace(), "", None, None, {}, None)


def charts(found):
    return {chart.name: chart for chart in found["charts"]}


def test_what_is_kept_near_and_far_from_contact_stands_side_by_side(verdict: Verdict):
    found = charts(geometry.build(run(verdict)))
    near, far = found["geometry"].panels
    assert (near.columns, near.values) == (("gripper",), ([0.5], [0.25]))
    assert far.values == ([1.0], [0.25])
    panels = {panel.title: [one.y for one in panel.series] for panel in found["geometry_by_k"].panels}
    assert panels == {
        "gripper, near contact": [[0.5] * 2, [0.25] * 2],
        "gripper, far from contact": [[1.0] * 2, [0.25] * 2],
    }


def test_directions_are_compared_over_spaces_and_places_within_one(verdict: Verdict):
    found = charts(attribution.build(run(verdict)))
    telling, _, random = found["attribution"].panels
    assert telling.series[0].y == pytest.approx([1.0, 0.0, 0.0])
    assert random.series[0].y == pytest.approx([1.0, 1.0, 1.0])
    assert telling.span == random.span
    assert np.array(found["places"].panels[0].values) == pytest.approx(np.array([[0.0, 0.0], [0.8, 0.0]]))


def test_a_run_without_them_has_no_such_section(verdict: Verdict):
    for section in (counterfactuals, closed_loop, calibration):
        assert section.build(run(verdict)) is None


def test_sections_stand_in_the_order_in_which_people_ask():
    names = [*sections()]
    assert names.index("cost") < names.index("policies") < names.index("metrics") < names.index("methods")


def test_worst_and_median_clips_are_shown_first():
    shown = rollouts.choose(np.array([20.0, 10.0, 30.0, 25.0, 15.0, 12.0, 11.0, 40.0]))
    assert [*shown.items()][:3] == [(0, "median"), (1, "worst"), (7, "best")]
    assert len(shown) == rollouts.MAX_CLIPS
