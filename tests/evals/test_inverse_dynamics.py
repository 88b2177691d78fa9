"""The correlation of read and true actions, for a perfect probe and with planted defects."""

import pytest
import torch
from torch import Tensor

from measured import Subject, measure, select, summary, with_constant_rollouts, with_noise
from point_world import PointWorldModel, ReadAction
from rslwm.evals.base import NotAvailable
from rslwm.evals.probe import TrainedProbe


class Thrice(ReadAction):
    """A third of the way for each of three actions."""

    def forward(self, pair: Tensor) -> Tensor:
        return torch.cat([super().forward(pair) / 3] * 3, 1)


def test_a_perfect_probe_correlates_perfectly(evaluation: Subject) -> None:
    rows = measure("inverse_dynamics", evaluation)
    for metric in ("idm_r", "idm_r2", "idm_r_generated", "idm_r2_generated"):
        assert summary(rows, metric) == pytest.approx(1, abs=5e-3)


def test_shuffled_actions_correlate_far_less(evaluation: Subject) -> None:
    rows = measure("inverse_dynamics", evaluation)
    assert summary(rows, "idm_r", "floor") < 0.5


def test_noise_on_generated_latents_hides_the_actions(evaluation: Subject) -> None:
    clean = measure("inverse_dynamics", evaluation)
    noisy = measure("inverse_dynamics", with_noise(evaluation, 6.0))
    assert summary(noisy, "idm_r_generated") < 0.9
    assert summary(noisy, "idm_r2_generated") < summary(noisy, "idm_r_generated")
    assert summary(noisy, "idm_r") == summary(clean, "idm_r")  # encoder latents are untouched


def test_constant_rollouts_show_no_command(evaluation: Subject) -> None:
    """A gripper that never moves correlates with nothing; the first pair still starts at a real frame."""
    rows = measure("inverse_dynamics", with_constant_rollouts(evaluation))
    gripper = [row for row in select(rows, "idm_r_generated") if row.dim == "gripper"]
    assert {row.value for row in gripper} == {0.0}
    assert summary(gripper, "idm_r_generated") == 0
    assert summary(rows, "idm_r2_generated") < 0


def test_every_generated_frame_is_the_later_one_of_a_pair(evaluation: Subject) -> None:
    rows = [row for row in select(measure("inverse_dynamics", evaluation), "idm_r_generated") if row.dim == "x"]
    assert len(rows) == evaluation.main.future * len(evaluation.main.windows)
    _, start = evaluation.main.windows[0]
    assert [row.window for row in rows[:: len(evaluation.main.windows)]] == [start + 2 * k for k in range(1, 5)]


def test_no_action_between_real_frames_counts_as_imagined(evaluation: Subject) -> None:
    """Otherwise a model that holds the last frame still would show the actions before it."""
    evaluation.set("inverse_dynamics", horizons=(3,))
    evaluation.probes["inverse-3"] = Thrice()  # type: ignore[assignment]
    rows = select(measure("inverse_dynamics", evaluation), "idm_r_generated")
    last_real = [start + 2 for _, start in evaluation.main.windows.tolist()]
    assert [row.window for row in rows[:: 3 * 4]] == last_real  # 3 actions of 4 dimensions


def test_what_was_imagined_is_held_against_nothing_imagined(evaluation: Subject) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("inverse_dynamics", evaluation)
    values, floors = (select(rows, "idm_r_generated", role) for role in ("value", "floor"))
    assert [row.value for row in floors] == pytest.approx([row.value for row in values])
    assert [row.target for row in floors] == [row.target for row in values]


def test_a_missing_probe_says_why(evaluation: Subject) -> None:
    evaluation.probes["inverse-1"] = TrainedProbe(None, "no training episode holds 2 frames")
    with pytest.raises(NotAvailable, match="no training episode holds 2 frames"):
        measure("inverse_dynamics", evaluation)
