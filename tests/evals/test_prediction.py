"""Rollout error and one-step error, against their closed forms."""

import pytest
import torch

from measured import Subject, measure, select, summary, with_constant_rollouts, with_noise
from point_world import PointWorldModel


def test_exact_rollouts_have_no_error(evaluation: Subject) -> None:
    assert summary(measure("rollout_error", evaluation), "rollout_error") < 1e-3  # rounding to bfloat16


def test_copying_the_last_frame_has_error_one_at_every_step(evaluation: Subject) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("rollout_error", evaluation)
    assert all(row.value == pytest.approx(row.target) for row in rows)
    assert summary(rows, "rollout_error") == pytest.approx(1)


def test_noise_adds_its_variance(evaluation: Subject) -> None:
    clean = measure("rollout_error", evaluation)
    noisy = measure("rollout_error", with_noise(evaluation, 0.5))
    added = sum(b.value - a.value for a, b in zip(clean, noisy, strict=True)) / len(clean)
    assert added == pytest.approx(0.25, rel=0.15)
    assert summary(noisy, "rollout_error") > summary(clean, "rollout_error")


def test_constant_rollouts_err_by_all_that_there_is(evaluation: Subject) -> None:
    rows = measure("rollout_error", with_constant_rollouts(evaluation))
    everything = evaluation.main.true.square().mean((2, 3, 4)).flatten().tolist()
    assert [row.value for row in rows] == pytest.approx(everything)


def test_there_is_a_row_for_every_window_and_step(evaluation: Subject) -> None:
    rows = measure("rollout_error", evaluation)
    assert sorted({row.k for row in rows}) == [1, 2, 3, 4]
    assert len(rows) == 4 * len(evaluation.main.windows) == 24
    assert {row.unit for row in rows} <= {evaluation.corpus.dataset.ids[e] for e in evaluation.corpus.test}


def test_the_exact_model_predicts_one_step(evaluation: Subject) -> None:
    assert summary(measure("one_step", evaluation), "one_step_error") < 1e-3


def test_copying_the_last_frame_has_a_one_step_error_of_one(evaluation: Subject) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    assert summary(measure("one_step", evaluation), "one_step_error") == pytest.approx(1)


def test_half_the_motion_has_a_quarter_of_the_error(evaluation: Subject) -> None:
    """Of the position alone: the gripper channel is predicted exactly at any gain but 0."""
    evaluation.world_model = PointWorldModel(gain=0.5)  # type: ignore[assignment]
    position = evaluation.main.generated[..., :3] - evaluation.main.true[..., :3]
    copied = evaluation.main.context[:, -1:, ..., :3] - evaluation.main.true[..., :3]
    ratio = position.square().sum() / copied.square().sum()
    assert float(ratio) == pytest.approx(0.25, abs=0.01)
    assert 0.05 < summary(measure("rollout_error", evaluation), "rollout_error") < 0.25


def test_predictions_average_over_draws(evaluation: Subject) -> None:
    class Noisy(PointWorldModel):
        def rollout(self, context, actions, sampling, generator=None):  # type: ignore[no-untyped-def]
            exact = super().rollout(context, actions, sampling)
            return exact + torch.randn(exact.shape, generator=generator)

        def step(self, state, action, sampling, noise, following):  # type: ignore[no-untyped-def]
            state, exact = super().step(state, action, sampling, noise, following)
            return state, exact + noise

    evaluation.world_model = Noisy()  # type: ignore[assignment]
    rows = select(measure("one_step", evaluation), "one_step_error")
    assert sum(row.value for row in rows) / len(rows) == pytest.approx(1 / 4, rel=0.2)  # unit variance over four draws
