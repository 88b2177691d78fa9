"""Trials: where they start, what another task is, and who succeeds."""

from dataclasses import replace

import numpy as np
import pytest

from rslwm.actors.blind import Still
from rslwm.actors.expert import Expert
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.trials import Successes, succeeded, true_success
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore
from rslwm.sim.tasks import FAMILIES

BLIND = SimConfig(image_size=16, cameras=())
SKIP = 2


@pytest.fixture(scope="module")
def table() -> SimulatedTabletop:
    return SimulatedTabletop(BLIND, SKIP)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_succeeds_with_composed_actions_and_nobody_by_doing_nothing(family: str, table) -> None:
    starts = table.starts(family, 4)
    assert succeeded(Expert(table.spec), table, starts).sum() >= 3
    assert not succeeded(Still(), table, starts).any()


@pytest.mark.slow
def test_the_expert_succeeds_in_95_percent_with_composed_actions(table) -> None:
    counts = true_success(Expert(table.spec), table, tuple(FAMILIES), trials=10, seed=3)
    assert len(counts["all"].outcomes) == 40
    assert counts["all"].rate >= 0.95


def test_starts_are_repeatable_and_those_of_no_recording(table) -> None:
    config = replace(BLIND, families=("pick",))
    starts = table.starts("pick", 3)
    recorded = [restore(config, index) for index in range(3)]
    places = [start.state.vectors()["object_position"] for start in (*starts, *recorded)]
    assert len({place.tobytes() for place in places}) == 6
    for one, two in zip(starts, table.starts("pick", 3), strict=True):
        np.testing.assert_array_equal(one.physics, two.physics)
    assert not np.array_equal(table.starts("pick", 1, seed=1)[0].physics, starts[0].physics)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_task_is_on_the_same_table_and_told_by_instruction_and_rule(family: str, table) -> None:
    for own, other in zip(table.starts(family, 4), table.starts(family, 4, another=True), strict=True):
        assert (own.task.target, own.task.goal) != (other.task.target, other.task.goal)
        assert own.task.instruction != other.task.instruction
        assert own.objects == other.objects
        named = (other.task.target, other.task.goal)
        words = other.task.instruction
        if family == "drawer":
            assert other.state.drawer_opening == pytest.approx(0.041, abs=0.005)
            assert ("open" in words) == (other.task.goal == "open")
        else:
            assert all(name in words for name in named if name in other.objects)
        assert not FAMILIES[family].reached(other.task, other.state)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_does_the_other_task(family: str, table) -> None:
    assert succeeded(Expert(table.spec), table, table.starts(family, 4, another=True)).sum() >= 2


def test_another_task_needs_another_object() -> None:
    alone = SimulatedTabletop(replace(BLIND, distractors=0), SKIP)
    assert len(alone.starts("drawer", 1, another=True)) == 1
    with pytest.raises(ConfigError, match="1 distractor or more"):
        alone.starts("push", 1, another=True)


def test_intervals_are_wilsons() -> None:
    # Newcombe (1998), table I: 81 of 263.
    card = Successes((True,) * 81 + (False,) * 182).card
    assert (card["low"], card["high"]) == (0.2553, 0.3662)
    none = Successes((False,) * 50).card
    assert none["low"] == 0.0
    assert none["high"] == pytest.approx(0.0713, abs=1e-4)
    assert Successes((True, False)).card["outcomes"] == "10"
