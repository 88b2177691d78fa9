from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from benchmarks.few_steps import SEED, few_steps, gradient, of_checkpoint

from rslwm.compute import generator
from rslwm.data.corpus import SeenEpisodes
from rslwm.evals.replay import replay
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig

CLIPS = RolloutsConfig(clips=4, context=2, future=3)


class Worse(WorldModel):
    """Every latent is one over the number of steps."""

    def step(self, state, action, sampling, noise, following=None):
        return state, torch.full_like(noise, 1 / sampling.steps)


class Faded(WorldModel):
    """The last frame, paler with fewer steps; every latent is a patch of one colour."""

    def decode(self, latents, clips=0):
        return latents.repeat_interleave(8, 2).repeat_interleave(8, 3)

    def start(self, context, actions, full_window=False):
        return context[:, -1]

    def step(self, state, action, sampling, noise, following=None):
        return state, state * (1 - 1 / sampling.steps)


class Restless(Worse):
    """Noise, less of it with fewer steps."""

    def step(self, state, action, sampling, noise, following=None):
        return state, noise * sampling.steps


@pytest.fixture
def build(corpus, plugin):
    torch.manual_seed(0)
    decoder = DecoderConfig(width=16)
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", corpus.config.image_size, decode=True, decoder=decoder))
    config = WorldModelConfig(dit=DiTConfig(width=24, depth=1, heads=1, patch=1))
    drawn = generator(0, "weights")

    def of(kind):
        model = kind(space, corpus.action_spec, config, drawn, corpus.dataset.fingerprint, corpus.config)
        model.seen = SeenEpisodes.of(corpus)
        return model

    return of


@pytest.fixture
def model(build) -> Worse:
    return build(Worse)


def test_latent_error_is_measured_against_the_truth(model, corpus, compute):
    found = few_steps(model, corpus, 10, 2, CLIPS, compute)["latent error"]
    truth = model.encode(replay(model, corpus, CLIPS, compute, SEED).truth)[:, 2:]
    expected = {steps: (truth - 1 / steps).square().flatten(1).mean(1) for steps in (10, 2)}
    assert found["10 steps"] == pytest.approx(float(expected[10].mean()))
    assert found["2 steps"] == pytest.approx(float(expected[2].mean()))
    difference = expected[2] - expected[10]
    assert found["difference"] == pytest.approx(float(difference.mean()), abs=1e-6)
    assert found["standard error"] == pytest.approx(float(difference.std() / 2), abs=1e-6)
    assert found["clips"] == 4


def test_psnr_is_that_of_the_replays(model, corpus, compute):
    found = few_steps(model, corpus, 10, 2, CLIPS, compute)["PSNR in dB"]
    assert found["difference"] == pytest.approx(found["2 steps"] - found["10 steps"], abs=1e-5)
    psnr = [replay(model, corpus, replace(CLIPS, sampling=SamplingConfig(n)), compute, SEED).psnr() for n in (10, 2)]
    assert [found["10 steps"], found["2 steps"]] == pytest.approx([float(p["rollout"].mean()) for p in psnr])


def test_detail_is_that_of_the_rollout_relative_to_encode_decode(build, corpus, compute):
    faded = build(Faded)
    found = few_steps(faded, corpus, 10, 2, CLIPS, compute)["detail"]
    latents = faded.encode(replay(faded, corpus, CLIPS, compute, SEED).truth)
    still = gradient(latents[:, 1:2]) / gradient(latents[:, 2:])
    assert found["10 steps"] == pytest.approx(0.9 * float(still.mean()), rel=1e-4)
    assert found["2 steps"] == pytest.approx(0.5 * float(still.mean()), rel=1e-4)


def test_spread_is_the_deviation_over_the_noise(build, model, corpus, compute):
    found = few_steps(build(Restless), corpus, 10, 2, CLIPS, compute)["spread"]
    assert [found["10 steps"], found["2 steps"]] == pytest.approx([10, 2], rel=0.05)
    assert few_steps(model, corpus, 10, 2, CLIPS, compute)["spread"]["10 steps"] == 0


def test_blurred_frames_have_a_smaller_gradient():
    squares = torch.ones(2, 3, 8, 8, 3)
    squares[:, :, ::2, ::2] = squares[:, :, 1::2, 1::2] = 0
    assert gradient(squares).tolist() == [1, 1]
    frames = torch.rand(2, 3, 16, 16, 3, generator=generator(0, "frames"))
    blurred = F.avg_pool2d(frames.flatten(0, 1).movedim(-1, 1), 3, 1, 1).movedim(1, -1).unflatten(0, (2, 3))
    assert (gradient(blurred) < 0.5 * gradient(frames)).all()
    assert gradient(frames[:1]) == gradient(frames)[0]


def test_a_checkpoint_is_measured_on_its_own_data(build, compute, tmp_path):
    build(WorldModel).save(tmp_path / "trained")
    clips = RolloutsConfig(clips=2, context=2, future=2)
    found = of_checkpoint(tmp_path / "trained", 3, 1, clips, compute, tmp_path)["latent error of trained"]
    assert found["clips"] == 2
    assert found["difference"] == pytest.approx(found["1 steps"] - found["3 steps"], abs=1e-6)
