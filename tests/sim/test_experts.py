from dataclasses import replace

import numpy as np
import pytest

from rslwm.sim.config import SimConfig
from rslwm.sim.experts import expert_action
from rslwm.sim.record import record_episode
from rslwm.sim.tabletop import SPEC, Tabletop, random_stream
from rslwm.sim.tasks import FAMILIES

BLIND = SimConfig(cameras=(), mistakes=0.0, giving_up=0.0, min_steps=50, max_steps=50, seed=77)
"""An expert at its best, given time. Without a camera an episode records in a third of the time."""


def success_rate(family: str, noise: float, episodes: int) -> float:
    """How often the task was done at some time; what follows may undo it."""
    config = replace(BLIND, families=(family,), noise=(noise,))
    return float(np.mean([record_episode(config, i).info["reached"] is not None for i in range(episodes)]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_succeeds_without_noise(family):
    assert success_rate(family, noise=0.0, episodes=3) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_succeeds_in_95_percent_without_noise(family):
    assert success_rate(family, noise=0.0, episodes=20) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_noise_makes_natural_failures(family):
    little, much = (success_rate(family, noise, episodes=10) for noise in (0.3, 1.0))
    assert little >= 0.75
    assert much <= 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_actions_keep_to_the_bounds(family):
    table = Tabletop()
    state = table.reset(6, family)
    for _ in range(15):
        action = expert_action(table.task, state)
        assert (action >= np.array(SPEC.low) - 1e-9).all()
        assert (action <= np.array(SPEC.high) + 1e-9).all()
        state = table.step(action)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_takes_over_from_any_state(family):
    table = Tabletop()
    state = table.reset(3, family)
    for action in random_stream(3, "expert").uniform(SPEC.low, SPEC.high, (8, SPEC.dims)):
        state = table.step(action)
    for _ in range(60):
        state = table.step(expert_action(table.task, state))
    assert table.success
