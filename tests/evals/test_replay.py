"""Rollouts of recorded clips by a checkpoint."""

from dataclasses import replace

import pytest
import torch

from rslwm.compute import generator
from rslwm.data.corpus import SeenEpisodes
from rslwm.evals.replay import Replay, replay
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.types import DataError

ASKED = RolloutsConfig(clips=5, context=2, future=3, sampling=SamplingConfig(steps=2))
SEED = 1234


@pytest.fixture
def model(corpus, plugin) -> WorldModel:
    """Knows nothing, but has the right shapes."""
    reference = f"{plugin}:PatchMean"
    torch.manual_seed(0)
    space = LatentSpace(SpaceConfig(reference, corpus.config.image_size, decode=True, decoder=DecoderConfig(width=16)))
    config = WorldModelConfig(dit=DiTConfig(width=24, depth=1, heads=1, patch=1))
    return WorldModel(space, corpus.action_spec, config, generator(0, "weights"), "other data", corpus.config)


def test_the_context_is_real_and_the_rest_is_generated(model, corpus, compute):
    result = replay(model, corpus, ASKED, compute, SEED)
    assert result.truth.shape == result.rollout.shape == (5, 5, 32, 32, 3)
    assert result.latents.shape == (5, 3, 4, 4, 3)
    assert torch.equal(result.rollout[:, :2], result.truth[:, :2])
    assert not torch.equal(result.rollout[:, 2:], result.truth[:, 2:])


def test_clips_show_the_frames_that_they_name(model, corpus, compute):
    result = replay(model, corpus, ASKED, compute, SEED)
    for (episode, start), truth in zip(result.clips, result.truth, strict=True):
        recorded = corpus.frames[episode][start : start + 9 : 2]
        assert torch.equal(truth, recorded.float() / 255)


def test_the_same_seed_gives_the_same_rollout_and_another_one_doesn_t(model, corpus, compute):
    first, again = (replay(model, corpus, ASKED, compute, SEED) for _ in range(2))
    other = replay(model, corpus, ASKED, compute, SEED + 1)
    assert torch.equal(first.latents, again.latents)
    assert first.clips != other.clips


def test_episodes_of_the_training_are_left_out_unless_they_are_asked_for(model, corpus, compute):
    everything = replace(ASKED, clips=1000)
    held_out = {corpus.dataset.ids[i] for i in corpus.test}
    assert {episode for episode, _ in replay(model, corpus, everything, compute, SEED).clips} > held_out
    model.seen = SeenEpisodes.of(corpus)
    assert {episode for episode, _ in replay(model, corpus, everything, compute, SEED).clips} == held_out
    asked = replay(model, corpus, everything, compute, SEED, seen=True)
    assert {episode for episode, _ in asked.clips} > held_out


def test_a_model_that_does_not_say_what_it_was_trained_on_is_refused_on_its_own_data(model, corpus, compute):
    model.fingerprint = corpus.dataset.fingerprint
    with pytest.raises(DataError, match=r"doesn't say which .*--seen"):
        replay(model, corpus, ASKED, compute, SEED)
    assert len(replay(model, corpus, ASKED, compute, SEED, seen=True).clips) == 5


def test_psnr_stands_between_copying_and_decoding():
    truth = torch.zeros(1, 3, 4, 4, 3)
    truth[:, 1:] = 0.5
    result = Replay([("a", 0)], 1, truth, truth, truth + 0.1, torch.zeros(1, 2, 1, 1, 1))
    values = {name: value[0, 0].item() for name, value in result.psnr().items()}
    assert values == pytest.approx({"copy last frame": 6.02, "rollout": 60.0, "encode-decode": 20.0}, abs=0.01)


def test_episodes_that_are_too_short_are_named(model, corpus, compute):
    with pytest.raises(DataError, match=r"no episode holds 2 \+ 30 frames 2 steps apart; the longest .* 18 steps"):
        replay(model, corpus, replace(ASKED, future=30), compute, SEED)
