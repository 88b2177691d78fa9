"""CEM recovers actions through a model that knows them, and none through one that doesn't."""

from dataclasses import replace

import pytest
import torch

from measured import Subject, measure, select, summary
from point_world import SPEC, PointWorldModel
from rslwm.evals.base import NotAvailable
from rslwm.types import ActionKind, ActionSpec


def test_the_exact_model_gives_the_action_back(evaluation: Subject) -> None:
    rows = measure("planning", evaluation)
    assert summary(rows, "cem_error") < 0.1 < summary(rows, "cem_error", "floor")
    assert summary(rows, "cem_error") == pytest.approx(summary(rows, "cem_error", "ceiling"), abs=0.03)
    assert summary(rows, "cem_r") > 0.98


def test_a_model_that_ignores_actions_is_no_better_than_no_signal(evaluation: Subject) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("planning", evaluation)
    assert summary(rows, "cem_error") > 0.9 * summary(rows, "cem_error", "floor")
    assert summary(rows, "cem_error") > summary(rows, "cem_error_still")
    assert abs(summary(rows, "cem_r")) < 0.5


def still_rows(evaluation: Subject) -> tuple[list[float], torch.Tensor]:
    """Rows of standing still, and the actions (N, 3, 4) of the same windows."""
    rows = select(measure("planning", evaluation), "cem_error_still")
    batch = evaluation.clips(4).batch(evaluation.windows(4, evaluation.config.planning.windows, "cem"))
    return [row.value for row in rows], batch.actions


def test_standing_still_is_as_far_off_as_the_true_action_is_long(evaluation: Subject) -> None:
    found, actions = still_rows(evaluation)
    assert found == pytest.approx(actions[:, -1, :3].norm(dim=-1).tolist(), abs=1e-5)


def test_standing_still_is_no_change_where_bounds_are_not_symmetric(
    evaluation: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    uneven = replace(SPEC, low=(-0.02, *SPEC.low[1:]), high=(0.08, *SPEC.high[1:])).composed(2)
    monkeypatch.setattr(type(evaluation.corpus), "action_spec", uneven)
    found, actions = still_rows(evaluation)
    assert found == pytest.approx((actions[:, -1, :3] - torch.tensor([-0.6, 0, 0])).norm(dim=-1).tolist(), abs=1e-5)


def test_standing_still_repeats_absolute_actions(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(evaluation.corpus), "action_spec", replace(SPEC, mode="absolute"))
    found, actions = still_rows(evaluation)
    assert found == pytest.approx((actions[:, -1] - actions[:, -2])[:, :3].norm(dim=-1).tolist(), abs=1e-5)


def test_rotations_that_the_robot_lacks_are_not_measured_as_perfect(evaluation: Subject) -> None:
    assert SPEC.where("rotation") == []
    assert select(measure("planning", evaluation), "cem_rotation_error") == []


@pytest.mark.parametrize("kind", ["joint", "other"])
def test_joints_are_planned_like_translations(
    kind: ActionKind, evaluation: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = [(row.metric, row.role, row.value) for row in measure("planning", evaluation)]
    joints = replace(SPEC, kinds=(kind,) * 3 + ("gripper",), mode=("delta",) * 3 + ("absolute",))
    monkeypatch.setattr(type(evaluation.corpus), "action_spec", joints.composed(2))
    assert [(row.metric, row.role, row.value) for row in measure("planning", evaluation)] == alike


def test_a_lone_gripper_has_no_motion_to_plan(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    fingers = ActionSpec(SPEC.names, ("gripper",) * 4, ("1",) * 4, (0.0,) * 4, (1.0,) * 4)
    monkeypatch.setattr(type(evaluation.corpus), "action_spec", fingers)
    with pytest.raises(NotAvailable, match=r"nothing in the action \(x, y, z, gripper\) moves the robot"):
        measure("planning", evaluation)


def test_the_gripper_is_given(evaluation: Subject) -> None:
    assert {row.dim for row in select(measure("planning", evaluation), "cem_r")} == {"x", "y", "z"}


def test_plans_of_several_lengths_are_measured_each_by_its_own(evaluation: Subject) -> None:
    alone = [(r.metric, r.role, r.window, r.value) for r in measure("planning", evaluation)]
    evaluation.set("planning", horizons=(1, 2))
    rows = measure("planning", evaluation)
    assert [(r.metric, r.role, r.window, r.value) for r in rows if r.k == 1] == alone
    assert summary([row for row in rows if row.k == 2], "cem_r") > 0.9
