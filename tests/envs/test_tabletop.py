"""The simulator as an environment, and the truth behind recorded episodes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.blind import Random, Recorded
from rslwm.actors.expert import Demonstrators, Expert
from rslwm.data.lerobot import write_lerobot
from rslwm.envs.base import live, play
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.sim.config import SimConfig
from rslwm.sim.record import demonstration, record_episode, restore
from rslwm.sim.tabletop import SPEC, Tabletop
from rslwm.sim.tasks import STATE_NAMES
from rslwm.types import DataError, Episode

CONFIG = SimConfig(image_size=32, min_steps=10, max_steps=10, dynamics_noise=0.2, cameras=("front", "wrist"))
PLACES = range(4)  # one of each family


@pytest.fixture(scope="module")
def table() -> SimulatedTabletop:
    return SimulatedTabletop(CONFIG)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [record_episode(CONFIG, index) for index in PLACES]


def normalised(actions: np.ndarray) -> Tensor:
    """In float64, where normalising an action takes next to nothing from it."""
    low, high = np.array(SPEC.low), np.array(SPEC.high)
    return torch.from_numpy(2 * (np.asarray(actions, float) - low) / (high - low) - 1)


def side_by_side(episode: Episode) -> Tensor:
    return torch.from_numpy(np.concatenate([*episode.frames.values()], 2)).float() / 255


@pytest.mark.parametrize("step", [0, 4, 9])
def test_a_recorded_moment_is_restored_exactly(table: SimulatedTabletop, episodes: list[Episode], step: int) -> None:
    shown = table.reset(tuple(restore(CONFIG, index, step) for index in PLACES))
    for place, episode in enumerate(episodes):
        for name, values in episode.states.items():
            np.testing.assert_array_equal(shown.truth[name][place, 0], values[step])
        assert torch.equal(shown.frames[place, 0], side_by_side(episode)[step])


def test_the_actions_that_were_executed_lead_to_the_recorded_states_and_frames(episodes: list[Episode]) -> None:
    for index, episode in zip(PLACES, episodes, strict=True):
        executed = [action for *_, action in demonstration(CONFIG, index)]
        simulator = Tabletop(CONFIG.image_size, dynamics_noise=CONFIG.dynamics_noise)
        simulator.load(restore(CONFIG, index, 4))
        for step in range(4, 9):
            for name, values in simulator.step(executed[step]).vectors().items():
                np.testing.assert_array_equal(values, episode.states[name][step + 1])
            np.testing.assert_array_equal(simulator.render(), episode.frames["front"][step + 1])


def test_recorded_actions_lead_to_the_recorded_states_but_for_their_rounding(
    table: SimulatedTabletop, episodes: list[Episode]
) -> None:
    start = tuple(restore(CONFIG, index, 4) for index in PLACES)
    actions = torch.stack([normalised(episode.actions[4:9]) for episode in episodes])
    seen = play(Recorded(actions), table, start, 5).seen
    for place, episode in enumerate(episodes):
        for name, values in episode.states.items():
            np.testing.assert_allclose(seen.truth[name][place], values[5:], atol=1e-4)
        assert (seen.frames[place] - side_by_side(episode)[5:]).abs().mean() < 1e-3


def test_the_truth_behind_a_data_set_is_its_frames_up_to_the_codec(
    table: SimulatedTabletop, episodes: list[Episode], tmp_path: Path
) -> None:
    recorded = write_lerobot(iter(episodes), tmp_path / "set", SPEC, state_names=STATE_NAMES)
    for index in PLACES:
        actions = normalised(recorded.actions(index)[3:9])[None]
        seen = play(Recorded(actions), table, (restore(CONFIG, index, 3),), 6).seen
        for name in STATE_NAMES:
            np.testing.assert_allclose(seen.truth[name][0], recorded.states(index)[name][4:10], atol=1e-4)
        frames = torch.from_numpy(recorded.frames(index, recorded.camera("front"))).float() / 255
        assert (seen.frames[0, :, :, :32] - frames[4:10]).abs().mean() < 0.03


def test_a_step_that_the_episode_doesn_t_have_is_refused() -> None:
    with pytest.raises(IndexError, match="episode 0 has 10 steps and no step 10"):
        restore(CONFIG, 0, 10)


def test_places_don_t_touch_each_other(table: SimulatedTabletop) -> None:
    start = tuple(restore(CONFIG, index) for index in PLACES)
    together = play(Random(), table, start, 3).seen
    for place in PLACES:
        alone = play(Recorded(together.actions[place : place + 1]), table, start[place : place + 1], 3).seen
        assert torch.equal(alone.frames[0], together.frames[place])
        assert all(torch.equal(alone.truth[name][0], values[place]) for name, values in together.truth.items())


def test_forks_of_a_state_are_played_on_in_many_ways(table: SimulatedTabletop) -> None:
    start = play(Random(), table, (restore(CONFIG, 0),), 2).seen.state
    actions = torch.rand(1, 3, 7, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1)
    actions[2] *= -1
    ends = play(Recorded(actions), table, table.fork(start, 3), 3).seen.truth["gripper_position"]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_demonstrator_records_the_same_episodes(table: SimulatedTabletop, episodes: list[Episode]) -> None:
    seen = play(Demonstrators(SPEC, CONFIG), table, tuple(restore(CONFIG, index) for index in PLACES), 9).seen
    for place, episode in enumerate(episodes):
        np.testing.assert_allclose(SPEC.denormalise(seen.actions[place].numpy()), episode.actions[:-1], atol=1e-6)
        for name, values in episode.states.items():
            np.testing.assert_allclose(seen.truth[name][place], values[1:], atol=1e-5)


def test_the_expert_does_the_task_from_wherever_it_is() -> None:
    config = replace(CONFIG, cameras=(), dynamics_noise=0.0)
    table = SimulatedTabletop(config)
    lost = play(Random(), table, tuple(restore(config, index) for index in PLACES), 5).seen
    assert lost.frames is None
    assert not lost.success.any()
    done = torch.zeros(len(PLACES), dtype=torch.bool)
    for observation in live(Expert(SPEC), table, lost.state):
        done |= observation.success[:, 0]
        if done.all() or observation.state[0].steps > 90:
            break
    assert done.all()


def test_an_action_of_a_frame_skip_is_done_in_equal_parts() -> None:
    config = replace(CONFIG, cameras=(), dynamics_noise=0.0)
    slow, fast = SimulatedTabletop(config), SimulatedTabletop(config, frame_skip=2)
    assert fast.spec == SPEC.composed(2)
    start = (restore(config, 1),)
    actions = torch.tensor([[[0.5, -0.5, 0.25, 0.1, -0.2, 0.3, 1.0]]], dtype=torch.float64)
    one = play(Recorded(actions), fast, start, 1).seen.state[0]
    two = play(Recorded(actions.repeat(1, 2, 1)), slow, start, 2).seen.state[0]
    assert one.steps == two.steps == 2
    np.testing.assert_allclose(one.physics, two.physics, atol=1e-9)


def test_actions_of_another_meaning_are_refused(table: SimulatedTabletop) -> None:
    start = (restore(CONFIG, 0),)
    with pytest.raises(DataError, match=r"differ in 'hz'"):
        play(Expert(SPEC.composed(2)), table, start, 1)
    with pytest.raises(DataError, match="other bounds"):
        play(Expert(replace(SPEC, low=(-1.0,) * 7)), table, start, 1)
    with pytest.raises(ValueError, match="7 finite numbers"):
        play(Recorded(torch.full((1, 1, 7), float("nan"))), table, start, 1)


def test_an_actor_reacts_to_what_it_saw(table: SimulatedTabletop) -> None:
    class Follow(Actor):
        """Lets go of whatever its hand touches, or else goes down with closed fingers; looks at nothing else."""

        def act(self, observation: Observation) -> Tensor:
            touches = observation.truth["contact"][:, -1] > 0
            down = torch.tensor([0, 0, -1.0, 0, 0, 0, -1]).expand(len(touches), -1)
            return torch.where(touches, -down, down)

    seen = play(Follow(), table, (restore(CONFIG, 0),), 8).seen
    assert torch.equal(seen.actions[0, 1:, 2] > 0, seen.truth["contact"][0, :-1, 0] > 0)
