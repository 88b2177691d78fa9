"""CEM recovers actions through a model that knows them, and none through one that doesn't."""

from dataclasses import replace

import pytest

from measured import measure, select, summary
from point_world import SPEC, PointWorldModel
from rslwm.evals.base import NotAvailable
from rslwm.evals.evaluation import Evaluation
from rslwm.types import ActionSpec


def test_the_exact_model_gives_the_action_back(evaluation: Evaluation) -> None:
    rows = measure("planning", evaluation)
    assert summary(rows, "cem_error") < 0.1 < summary(rows, "cem_error", "floor")
    assert summary(rows, "cem_r") > 0.98


def test_a_model_that_ignores_actions_is_no_better_than_no_signal(evaluation: Evaluation) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("planning", evaluation)
    assert summary(rows, "cem_error") > 0.8 * summary(rows, "cem_error_no_signal")
    assert summary(rows, "cem_error") > 0.9 * summary(rows, "cem_error", "floor")
    assert abs(summary(rows, "cem_r")) < 0.5


def test_the_floor_is_the_length_of_the_true_action(evaluation: Evaluation) -> None:
    rows = select(measure("planning", evaluation), "cem_error", "floor")
    clips = evaluation.clips(4)
    batch = clips.batch(evaluation.windows(4, evaluation.config.plan.windows, "cem"))
    lengths = batch.actions[:, -1, :3].norm(dim=-1).tolist()
    assert [row.value for row in rows] == pytest.approx(lengths, abs=1e-5)


def test_rotations_that_the_robot_lacks_are_not_measured_as_perfect(evaluation: Evaluation) -> None:
    assert SPEC.where("rotation") == []
    assert select(measure("planning", evaluation), "cem_rotation_error") == []


def test_a_robot_without_translations_has_no_planning_score(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    joints = ActionSpec(("j1",), ("other",), ("rad",), (-1.0,), (1.0,), mode="absolute")
    monkeypatch.setattr(type(evaluation.corpus), "action_spec", joints)
    with pytest.raises(NotAvailable, match="no translations to recover"):
        measure("planning", evaluation)


def test_plans_of_several_lengths_are_measured_each_by_its_own(evaluation: Evaluation) -> None:
    alone = [(r.metric, r.role, r.window, r.value) for r in measure("planning", evaluation)]
    evaluation.config = replace(evaluation.config, plan_horizons=(1, 2))
    rows = measure("planning", evaluation)
    assert [(r.metric, r.role, r.window, r.value) for r in rows if r.k == 1] == alone
    assert summary([row for row in rows if row.k == 2], "cem_r") > 0.9
