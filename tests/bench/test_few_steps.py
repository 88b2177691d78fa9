from dataclasses import replace

import pytest
import torch

from rslwm.bench.quality import few_steps
from rslwm.compute import generator
from rslwm.config import DecoderConfig, DiTConfig, EvalConfig, SamplingConfig, WorldModelConfig
from rslwm.evals.replay import replay
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.world_model import WorldModel

CLIPS = EvalConfig(clips=4, context=2, future=3)


class Worse(WorldModel):
    """Every latent is one over the number of steps."""

    def rollout(self, context, actions, sampling, generator=None, noise=None):
        shape = (len(context), actions.shape[1] - context.shape[1] + 1, *context.shape[2:])
        return torch.full(shape, 1 / sampling.steps)


@pytest.fixture
def model(corpus, plugin) -> Worse:
    torch.manual_seed(0)
    decoder = DecoderConfig(width=16)
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", corpus.image_size, decode=True, decoder=decoder))
    config = WorldModelConfig(dit=DiTConfig(width=24, depth=1, heads=1, patch=1))
    drawn = generator(0, "weights")
    return Worse(space, corpus.action_spec, config, drawn, corpus.dataset.fingerprint, corpus.config)


def test_latent_error_is_measured_against_the_truth(model, corpus, compute):
    found = few_steps(model, corpus, 10, 2, CLIPS, compute)["latent error"]
    truth = model.encode(replay(model, corpus, CLIPS, compute).truth)[:, 2:]
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
    psnr = [replay(model, corpus, replace(CLIPS, sampling=SamplingConfig(n)), compute).psnr() for n in (10, 2)]
    assert [found["10 steps"], found["2 steps"]] == pytest.approx([float(p["rollout"].mean()) for p in psnr])
