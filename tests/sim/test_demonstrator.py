"""What a recording shows beside its task must not tell how the task went."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from rslwm.sim.config import SimConfig
from rslwm.sim.record import AFTERWARDS, record, record_episode
from rslwm.types import Episode

BLIND = SimConfig(cameras=(), episodes=200)
CLIP = 19
"""Recorded steps of the success probe's clip."""


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return list(record(BLIND))


def labels(episodes: list[Episode]) -> np.ndarray:
    return np.array([bool(episode.success) for episode in episodes])


def auc(values: list[float], success: np.ndarray) -> float:
    """Of telling success from failure by the larger value; ties count half."""
    x = np.array(values)
    difference = x[success][:, None] - x[~success][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def heights(episodes: list[Episode]) -> list[float]:
    return [float(e.states["gripper_position"][-1, 2]) for e in episodes]


def test_neither_height_nor_length_nor_opening_tells_success(episodes: list[Episode]) -> None:
    success = labels(episodes)
    assert 0.4 < auc(heights(episodes), success) < 0.6
    assert 0.4 < auc([len(e) for e in episodes], success) < 0.6
    assert 0.4 < auc([float(e.states["gripper_opening"][-1, 0]) for e in episodes], success) < 0.6


def test_every_family_fails_and_succeeds_in_like_shares(episodes: list[Episode]) -> None:
    for family in BLIND.families:
        mine = [bool(e.success) for e in episodes if e.info["family"] == family]
        assert 0.35 < np.mean(mine) < 0.8


def test_all_episodes_hold_the_probe_s_clip(episodes: list[Episode]) -> None:
    lengths = {len(e) for e in episodes}
    assert lengths == set(range(BLIND.min_steps, BLIND.max_steps + 1))
    assert min(lengths) >= CLIP


def test_all_kinds_of_behaviour_follow_on_success_and_on_failure(episodes: list[Episode]) -> None:
    for outcome in (True, False):
        assert Counter(e.info["afterwards"] for e in episodes if e.success == outcome).keys() == AFTERWARDS.keys()


def test_an_episode_s_course_does_not_depend_on_how_it_goes() -> None:
    for index in range(8):
        steady, shaky = (record_episode(replace(BLIND, noise=(noise,)), index) for noise in (0.0, 1.5))
        assert len(steady) == len(shaky)
        for fact in ("misjudged", "gives_up", "afterwards"):
            assert steady.info[fact] == shaky.info[fact]


def test_one_who_misjudges_the_goal_fails_and_goes_on_as_if_done() -> None:
    config = replace(BLIND, noise=(0.0,), mistakes=1.0, giving_up=0.0)
    found = [e for e in (record_episode(config, i) for i in range(12)) if e.info["misjudged"]]
    assert len(found) > 6
    assert not any(e.success for e in found)
    assert np.mean([e.info["turned"] < BLIND.min_steps - 9 for e in found]) > 0.7  # not for want of time


def test_one_who_gives_up_turns_to_something_else() -> None:
    config = replace(BLIND, noise=(0.2,), mistakes=0.0, giving_up=1.0)
    found = [record_episode(config, i) for i in range(16)]
    failed = [e for e in found if e.info["reached"] is None]
    assert len(failed) > 3
    assert len({e.info["turned"] for e in failed}) > 2


def test_success_is_of_the_last_frame(episodes: list[Episode]) -> None:
    """What was done can be undone: then the last frame shows a failure."""
    undone = [e for e in episodes if e.info["reached"] is not None and not e.success]
    assert all(e.info["reached"] is not None for e in episodes if e.success)
    assert len(undone) < 0.05 * len(episodes)


def test_the_arm_goes_on_where_there_is_no_other_object() -> None:
    config = replace(BLIND, distractors=0, noise=(0.0,))
    for index in range(8):
        episode = record_episode(config, index)
        assert BLIND.min_steps <= len(episode) <= BLIND.max_steps


def test_a_short_longest_episode_is_the_length_of_all() -> None:
    assert len(record_episode(replace(BLIND, max_steps=5), 0)) == 5
