"""A checkpoint as a Gymnasium environment begins where episodes do that it wasn't trained on."""

from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import point_world
import rslwm.envs.gym  # noqa: F401
from rslwm import shipping
from rslwm.compute import ComputeConfig, generator
from rslwm.data.corpus import Corpus, SeenEpisodes
from rslwm.data.lerobot import write_lerobot
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.study.worlds import FirstFrames, world_model
from rslwm.types import DataError


@pytest.fixture
def model(corpus: Corpus, plugin: Path) -> WorldModel:
    """Trained on the training episodes of the point world, as it says."""
    decoder = DecoderConfig(width=16)
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", corpus.config.image_size, decode=True, decoder=decoder))
    config = WorldModelConfig(dit=DiTConfig(width=24, depth=1, heads=1, patch=1, max_frames=3))
    drawn = generator(0, "weights")
    model = WorldModel(space, corpus.action_spec, config, drawn, corpus.dataset.fingerprint, corpus.config)
    model.seen = SeenEpisodes.of(corpus)
    return model


def test_starts_are_the_first_frames_of_unseen_episodes(model: WorldModel, corpus: Corpus) -> None:
    starts = FirstFrames(corpus, model, 2)
    assert starts.windows.tolist() == [[episode, 0] for episode in corpus.test]
    assert starts.instructions == [corpus.dataset.instructions[episode] for episode in corpus.test]
    for start, episode in zip(starts, corpus.test, strict=True):
        recorded = corpus.frames[corpus.dataset.ids[episode]][:: corpus.config.frame_skip]
        assert np.array_equal(start.frames, recorded[:2])
    clip = corpus.clips(corpus.frames, 2).batch(starts.windows)
    assert np.array_equal(np.stack([start.actions for start in starts]), clip.actions)
    assert [start.instruction for start in starts[1:3]] == starts.instructions[1:3]
    with pytest.raises(DataError, match="no unseen episode holds 99 frames; lower the context"):
        FirstFrames(corpus, model, 99)


@pytest.mark.usefixtures("in_this_process")
def test_a_checkpoint_is_made_an_environment_of_other_data(model: WorldModel, corpus: Corpus, tmp_path: Path) -> None:
    numbers = corpus.train[:2] + corpus.test[:2]
    episodes = (replace(point_world.episode(i, bool(i % 2)), id=f"renamed-{i}") for i in numbers)
    write_lerobot(episodes, tmp_path / "set", point_world.SPEC, state_names=point_world.STATE_NAMES)
    model.save(tmp_path / "trained")
    made = {"checkpoint": tmp_path / "trained", "data": f"lerobot:{tmp_path / 'set'}"}
    env = gymnasium.make_vec("rslwm/WorldModel-v0", 3, **made, compute=ComputeConfig("cpu", "float32"))
    assert len(env.unwrapped.world.starts) == 2  # what it was trained on has another name there, and is known
    observed, _ = env.reset(seed=0)
    assert observed["frames"].shape == (3, 32, 32, 3)
    assert {*observed["instruction"]} <= {*corpus.dataset.instructions}
    observed, *_ = env.step(env.action_space.sample())
    assert observed in env.observation_space


@pytest.mark.usefixtures("in_this_process")
def test_a_shipped_name_is_made_an_environment(
    model: WorldModel, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shipped/points/mine"
    model.save(folder)
    shipping.Card("mine", "points", "", {}, 0, {}, 1, {}, {}, {}, shipping.sums(folder)).save(folder)
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path / "shipped")
    places = world_model(1, "mine@points", corpus.config.uri, compute=ComputeConfig("cpu", "float32"))
    assert len(places.world.starts) == len(corpus.test)


def test_a_world_model_without_a_folder_needs_starts(model: WorldModel) -> None:
    with pytest.raises(DataError, match="starts: a world model that isn't given by its folder needs them"):
        world_model(checkpoint=model)
    with pytest.raises(DataError, match="starts: there are none"):
        world_model(checkpoint=model, starts=[])
