"""Calibrated futures in a random point world, whose spread is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from measured import Subject, measure, select, summary
from point_world import PointWorldModel, RandomPointEnvironment, RandomPointSource
from rslwm.evals.base import NotAvailable
from rslwm.evals.futures import FuturesRecording

WINDOWS = "calibration[windows=24,future=4]"


class RandomWorldModel(PointWorldModel):
    """Moves the point as the random point world does, by ``spread`` times as much at random."""

    def __init__(self, spread: float = 1.0, gain: float = 1.0, bias: float = 0.0) -> None:
        super().__init__(gain)
        self.spread, self.bias = spread, bias

    def step(self, state, action, sampling, noise, following):  # type: ignore[no-untyped-def]
        state, frame = super().step(state, action, sampling, noise, following)
        moved = frame.clone()
        moved[..., :3] += self.bias + self.spread * RandomPointEnvironment.sigma * noise[:, :1, :1, :3]
        return replace(state, last=moved), moved


@pytest.fixture
def chancy(evaluation: Subject) -> Subject:
    """A random world and a model that knows it."""
    return with_model(replace(evaluation, source=RandomPointSource("", evaluation.corpus.config)), RandomWorldModel())


def with_model(evaluation: Subject, model: PointWorldModel) -> Subject:
    return replace(evaluation, world_model=model)


def test_the_right_spread_is_told_from_others(chancy: Subject) -> None:
    """Half of it is overconfident, twice is timid; the score punishes both."""
    rows = {spread: measure(WINDOWS, with_model(chancy, RandomWorldModel(spread))) for spread in (0.5, 1.0, 2.0)}
    ratio = {spread: summary(found, "spread_error") for spread, found in rows.items()}
    assert ratio[1.0] == pytest.approx(1, abs=0.15)
    assert ratio[0.5] < 0.7
    assert ratio[2.0] > 1.5
    assert summary(rows[1.0], "coverage_50") == pytest.approx(0.5, abs=0.08)
    assert summary(rows[1.0], "coverage_90") == pytest.approx(0.9, abs=0.06)
    assert summary(rows[0.5], "coverage_90") < 0.75
    assert summary(rows[0.5], "uneven_ranks") > 2 * summary(rows[1.0], "uneven_ranks")
    for wrong in (0.5, 2.0):
        assert summary(rows[wrong], "crps_gripper") > summary(rows[1.0], "crps_gripper") + 0.01


def test_a_model_that_knows_the_world_reaches_the_ceiling(chancy: Subject) -> None:
    rows = measure(WINDOWS, chancy)
    for metric in ("crps_gripper", "crps_object", "energy_gripper"):
        value, ceiling, floor = (summary(rows, metric, role) for role in ("value", "ceiling", "floor"))
        assert value == pytest.approx(ceiling, rel=0.1)
        assert value < 0.5 * floor


def test_spread_is_worth_more_than_the_mean_alone(chancy: Subject) -> None:
    rows = measure(WINDOWS, chancy)
    assert summary(rows, "crps_gripper") < 0.9 * summary(rows, "crps_mean")
    assert summary(rows, "crps_gripper") < 0.5 * summary(rows, "crps_climatology")


def test_a_biased_model_is_found_out(chancy: Subject) -> None:
    rows = measure(WINDOWS, with_model(chancy, RandomWorldModel(bias=0.1)))
    assert summary(rows, "spread_error") < 0.7
    assert summary(rows, "crps_gripper") > 1.3 * summary(rows, "crps_gripper", "ceiling")


def test_a_frozen_rollout_is_the_floor(chancy: Subject) -> None:
    rows = measure(WINDOWS, with_model(chancy, RandomWorldModel(spread=0.0, gain=0.0)))
    assert summary(rows, "crps_gripper") == pytest.approx(summary(rows, "crps_gripper", "floor"))


def test_ignored_actions_are_found_out(chancy: Subject) -> None:
    rows = measure(WINDOWS, with_model(chancy, RandomWorldModel(gain=0.0)))
    assert summary(rows, "crps_gripper") > 1.5 * summary(rows, "crps_gripper", "ceiling")


def test_objects_that_aren_t_there_don_t_count(chancy: Subject) -> None:
    """The second one is, in every other episode; the read-out of where it isn't would be 20 cm off."""
    rows = select(measure(WINDOWS, chancy), "crps_object")
    alone = [row.value for row in rows if int(row.unit.removeprefix("point-")) % 2 == 0]
    assert alone
    assert np.mean(alone) < 2


def test_horizons_are_told_apart(chancy: Subject) -> None:
    rows = select(measure(WINDOWS, chancy), "crps_gripper", "ceiling")
    by_step = [np.mean([row.value for row in rows if row.k == k]) for k in range(1, 5)]
    assert by_step == sorted(by_step)


def test_a_world_without_chance_has_no_spread_to_hit(evaluation: Subject, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="happens by chance"):
        FuturesRecording(windows=4, courses=2, context=2, future=2).make(evaluation.truth, tmp_path)
