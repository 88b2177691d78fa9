import numpy as np
import pytest

from rslwm.evals.attribution import ACTIONS, MAP
from rslwm.evals.geometry import KEPT
from rslwm.evals.rows import Rows
from rslwm.report import answers
from rslwm.report.palette import inks
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


def test_what_is_kept_near_and_far_from_contact_is_one_figure(verdict: Verdict):
    kept, _ = answers.draw(verdict, inks(verdict.spaces, verdict.families))
    (panel,) = kept.figure.axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in panel.lines[:2]}
    assert kept.question == KEPT.question
    assert drawn == {"far gripper": [1.0, 1.0], "near gripper": [0.5, 0.5]}


def test_every_space_has_curves_over_the_directions_removed_and_a_map(verdict: Verdict):
    _, parts = answers.draw(verdict, inks(verdict.spaces, verdict.families))
    curves, place, *_ = parts.figure.axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in curves.lines}
    assert drawn["actions"] == pytest.approx([1.0, 0.0, 0.0])
    assert drawn["random"] == pytest.approx([1.0, 1.0, 1.0])
    assert np.argmax(place.collections[0].get_array()) == 2
    assert len(parts.figure.axes) == 2 * 2


def test_a_run_without_them_has_no_such_figure(verdict: Verdict):
    nothing = decide(
        Rows.concatenate([rows(KEPT, 1, "", 1.0, 1.0, latent) for latent in "ab"]),
        {KEPT.name: KEPT},
        VerdictConfig(resamples=50),
    )
    assert not [*answers.draw(nothing, inks(nothing.spaces, nothing.families))]
