"""The simulator and a world model behind Gymnasium's interface."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from rslwm.compute import ComputeConfig
from rslwm.envs.gym import register
from rslwm.envs.imagined_world import Start
from rslwm.envs.places import Places
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore
from rslwm.sim.tabletop import SPEC
from rslwm.study.worlds import world_model
from rslwm.types import DataError
from tiny import tiny_world_model

SIM = {"image_size": 32}
WORLDS = ("Tabletop", "WorldModel")
Make = Callable[..., Any]


@pytest.fixture
def model(plugin: Path) -> WorldModel:
    """One that shows frames: its decoder paints every patch in one colour."""
    model = tiny_world_model(plugin)
    model.space.decode = lambda latents: latents.repeat_interleave(8, 2).repeat_interleave(8, 3).sigmoid()  # type: ignore[method-assign]
    model.action_spec = SPEC.composed(2)
    return model


def starts(count: int = 3, frames: int = 1) -> list[Start]:
    draw = np.random.default_rng(0)
    shown = draw.integers(0, 256, (count, frames, 32, 32, 3), dtype=np.uint8)
    done = draw.uniform(-1, 1, (count, frames - 1, 7))
    return [Start(shown[i], done[i], f"push cube {i}") for i in range(count)]


@pytest.fixture
def options(model: WorldModel) -> dict[str, dict[str, Any]]:
    imagined = {"checkpoint": model, "starts": starts(), "compute": ComputeConfig("cpu", "float32")}
    return {"Tabletop": {"sim": SIM}, "WorldModel": imagined}


@pytest.fixture
def vector(options: dict[str, dict[str, Any]]) -> Make:
    return lambda name, places=2, **more: gymnasium.make_vec(f"rslwm/{name}-v0", places, **options[name], **more)


@pytest.fixture
def single(options: dict[str, dict[str, Any]]) -> Make:
    return lambda name, **more: gymnasium.make(f"rslwm/{name}-v0", **options[name], **more)


def actions(steps: int, places: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, places, 7)).astype(np.float32)


def played(env: Places, course: np.ndarray) -> np.ndarray:
    """(F, B, H, W, 3)"""
    return np.stack([env.step(action)[0]["frames"] for action in course])


@pytest.mark.parametrize("more", [{}, {"history": 3}], ids=["a frame", "history"])
@pytest.mark.parametrize("name", WORLDS)
def test_gymnasium_s_checker_has_nothing_to_say(name: str, more: dict[str, int], single: Make) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(single(name, **more).unwrapped)


def test_truth_and_model_have_the_same_interface(vector: Make) -> None:
    table, imagined = (vector(name) for name in WORLDS)
    assert table.observation_space == imagined.observation_space
    assert table.action_space == imagined.action_space
    assert table.metadata == imagined.metadata
    assert table.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert table.unwrapped.action_spec == imagined.unwrapped.action_spec
    for env in (table, imagined):
        observed, _ = env.reset(seed=0)
        assert observed in env.observation_space
        observed, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
        assert observed in env.observation_space
        assert (rewards == 0).all()
        assert not terminated.any()
        assert not truncated.any()
        assert ("truth" in infos, "success" in infos) == ((env is table,) * 2)
    assert table.reset()[1]["truth"]["gripper_position"].shape == (2, 3)


@pytest.mark.parametrize("name", WORLDS)
def test_a_seed_decides_everything(name: str, vector: Make) -> None:
    course = actions(5)

    def seen(seed: int) -> tuple[np.ndarray, ...]:
        env = vector(name, max_steps=2)  # new episodes begin on the way
        observed, _ = env.reset(seed=seed)
        return observed["frames"], played(env, course)

    first, again, other = seen(1), seen(1), seen(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_a_place_of_many_is_the_single_one_of_its_seed(vector: Make, single: Make) -> None:
    course = actions(3)
    many, one = vector("Tabletop"), single("Tabletop")
    assert many.reset(seed=5)[0]["instruction"][1] == one.reset(seed=6)[0]["instruction"]
    alone = np.stack([one.step(action)[0]["frames"] for action in course[:, 1]])
    assert np.array_equal(played(many, course)[:, 1], alone)


@pytest.mark.parametrize("name", WORLDS)
def test_a_place_that_is_over_begins_anew_with_the_next_step(name: str, vector: Make) -> None:
    env = vector(name, max_steps=2)
    env.reset(seed=0)
    ends = [env.step(action)[3].tolist() for action in actions(6)]
    assert ends == [[False] * 2, [True] * 2, [False] * 2] * 2
    assert [moment.steps for moment in env.unwrapped._moments] == [0, 0]


def test_the_action_of_a_place_that_begins_is_ignored(vector: Make) -> None:
    course, another = actions(3), actions(3)
    another[2] *= -1
    seen = []
    for done in (course, another):
        env = vector("Tabletop", max_steps=2)
        env.reset(seed=0)
        seen.append(played(env, done))
    assert np.array_equal(*seen)


def test_success_is_rewarded_once_and_ends_the_episode(model: WorldModel, vector: Make) -> None:
    asked = []

    def judge(frames: np.ndarray, instructions: tuple[str, ...]) -> np.ndarray:
        """Says that a task is done once three frames have been seen of the first start, never of the others."""
        asked.append(frames.shape)
        return np.array([words == "push cube 0" and frames.shape[1] == 3 for words in instructions])

    env = vector("WorldModel", judge=judge, max_steps=3)
    env.reset(seed=0, options={"starts": starts(2)})
    outcomes = [env.step(action)[1:] for action in actions(3)]
    assert [o[0].tolist() for o in outcomes] == [[0, 0], [1, 0], [0, 0]]
    assert [o[1].tolist() for o in outcomes] == [[False] * 2, [True, False], [False] * 2]
    assert [o[2].tolist() for o in outcomes] == [[False] * 2, [False] * 2, [False, True]]
    assert [o[3]["success"].tolist() for o in outcomes] == [o[1].tolist() for o in outcomes]
    assert asked == [(2, 2, 32, 32, 3), (2, 3, 32, 32, 3), (1, 4, 32, 32, 3)]


@pytest.mark.parametrize("changes", [{}, {"alignment": "outgoing"}], ids=["incoming", "outgoing"])
@pytest.mark.parametrize("window", [False, True], ids=["sliding", "full window"])
def test_places_apart_see_what_they_would_see_together(
    changes: dict[str, Any], window: bool, model: WorldModel, plugin: Path
) -> None:
    """One ends early and begins anew: what the other sees doesn't depend on it."""

    built = tiny_world_model(plugin, **changes)
    built.space.decode, built.action_spec = model.space.decode, model.action_spec  # type: ignore[method-assign]

    def seen(judge: Any) -> np.ndarray:
        sampling = SamplingConfig(2, full_window=window)
        env = world_model(2, built, starts=starts(frames=2), judge=judge, sampling=sampling)
        env.reset(seed=0, options={"starts": starts(2, 2)})
        return played(env, actions(6))[:, 1]

    apart = seen(lambda frames, words: np.array([w == "push cube 0" and frames.shape[1] == 4 for w in words]))
    assert np.abs(apart.astype(int) - seen(None)).max() <= 1  # a batch of another size rounds otherwise


@pytest.mark.parametrize("name", WORLDS)
def test_a_state_is_gone_back_to(name: str, vector: Make) -> None:
    env = vector(name, max_steps=3)
    env.reset(seed=0)
    env.step(actions(1)[0])
    saved = env.unwrapped.save()
    course = actions(4, seed=1)
    first = played(env, course)  # past the end of the episodes
    env.unwrapped.load(saved)
    assert np.array_equal(played(env, course), first)
    with pytest.raises(DataError, match="a state of 2 places, but here are 3"):
        vector(name, 3).unwrapped.load(saved)


@pytest.mark.parametrize("name", WORLDS)
def test_forks_of_equal_chance_have_equal_futures(name: str, vector: Make) -> None:
    env = (
        vector(name)
        if name == "WorldModel"
        else gymnasium.make_vec("rslwm/Tabletop-v0", 2, sim={**SIM, "dynamics_noise": 0.3})
    )
    env.reset(seed=0)
    env.step(actions(1)[0])
    course = actions(3, seed=1)
    forked, others = env.unwrapped.fork(2), env.unwrapped.fork(2, seed=7)
    assert forked.num_envs == 4
    seen, apart = (played(one, course.repeat(2, 1)) for one in (forked, others))
    assert np.array_equal(seen[:, 0], seen[:, 1])
    assert np.array_equal(seen[:, 2], seen[:, 3])
    assert not np.array_equal(apart[:, 0], apart[:, 1])
    own = played(env, course)  # the forks have left it where it was
    assert np.abs(own.astype(int) - seen[:, ::2]).max() <= 1


def test_forks_of_forks_and_their_rows(vector: Make) -> None:
    """Shared contexts come apart again."""
    env = vector("WorldModel")
    env.reset(seed=0)
    course = actions(2, 8)
    eight = env.unwrapped.fork(2).fork(2)
    whole = played(eight, course)
    saved = env.unwrapped.fork(4).save()
    few = vector("WorldModel", 3)
    few.unwrapped.load(type(saved)(*(part[1:6:2] for part in vars(saved).values())))
    assert np.abs(played(few, course[:, 1:6:2]).astype(int) - whole[:, 1:6:2]).max() <= 1


def test_the_last_frames_are_seen(vector: Make) -> None:
    one, three = vector("WorldModel"), vector("WorldModel", history=3)
    first, stacked = one.reset(seed=0)[0]["frames"], three.reset(seed=0)[0]["frames"]
    assert np.array_equal(stacked, np.stack([first] * 3, 1))
    course = actions(3)
    singly = played(one, course)
    assert np.array_equal(played(three, course)[-1], singly.swapaxes(0, 1))


def test_actions_in_units_are_the_normalised_ones(vector: Make) -> None:
    course, seen = actions(3), []
    for units in (False, True):
        env = vector("Tabletop", units=units)
        spec = env.unwrapped.action_spec
        assert np.allclose(env.action_space.high, spec.high if units else 1)
        env.reset(seed=0)
        seen.append(played(env, spec.denormalise(course) if units else course).astype(int))
    assert np.abs(seen[0] - seen[1]).mean() < 0.01  # but for their rounding


@pytest.mark.parametrize("name", WORLDS)
def test_actions_that_are_none_are_refused(name: str, vector: Make, single: Make) -> None:
    env, one = vector(name), single(name, disable_env_checker=True)
    with pytest.raises(ResetNeeded):
        env.step(actions(1)[0])
    env.reset(seed=0)
    one.reset(seed=0)
    broken = actions(1)[0]
    broken[1, 2] = np.nan
    with pytest.raises(DataError, match="'z' of place 1 is nan"):
        env.step(broken)
    with pytest.raises(DataError, match=r"of shape \(2, 6\); \(2, 7\) is needed, of each place x, y"):
        env.step(broken[:, :6])
    with pytest.raises(DataError, match=r"of shape \(6,\); \(7,\) is needed: x, y, z"):
        one.step(broken[0, :6])


def test_a_single_place_that_is_over_must_be_reset(single: Make) -> None:
    env = single("WorldModel", max_steps=1)
    env.reset(seed=0)
    assert env.step(actions(1)[0, 0])[2:4] == (False, True)
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(actions(1)[0, 0])


def test_episodes_begin_where_one_says(vector: Make) -> None:

    config = SimConfig(image_size=32)
    env = vector("Tabletop")
    recorded = [restore(config, episode) for episode in range(2)]
    observed, _ = env.reset(seed=0, options={"starts": recorded})
    assert observed["instruction"] == tuple(place.task.instruction for place in recorded)
    with pytest.raises(ConfigError, match="1 starts for 2 places"):
        env.reset(options={"starts": recorded[:1]})
    with pytest.raises(DataError, match=r"Start.frames: \(1, 64, 64, 3\) of uint8"):
        vector("WorldModel", 1).reset(options={"starts": [Start(np.zeros((1, 64, 64, 3), np.uint8))]})


@pytest.mark.slow
def test_the_module_in_front_of_an_id_is_all_that_is_needed() -> None:
    made = "gymnasium.make_vec('rslwm.envs.gym:rslwm/Tabletop-v0', num_envs=2, sim={'image_size': 16})"
    code = f"import gymnasium; env = {made}; print(env.reset(seed=0)[0]['frames'].shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n")[0] == "(2, 16, 16, 3)", done.stderr
    register()  # again is no harm
    assert {f"rslwm/{name}-v0" for name in WORLDS} <= {*gymnasium.registry}
