"""The transformer and its sampler compute what the published ones compute, with the published weights."""

from dataclasses import replace

import pytest
import torch

from published_vectors import SAMPLING, load, rollout_error, velocity_error
from rslwm.model.published.ddpm import VPrediction

WINDOW = 6
CONTEXT = 2


@pytest.mark.parametrize("name", ["dit_wide_p1", "dit_plain_p2", "dit_joint", "dit_multiview"])
def test_velocity_equals_the_published_one(name: str) -> None:
    assert velocity_error(load(name)) < 1e-5


@pytest.mark.parametrize("name", ["dit_wide_p1", "dit_plain_p2", "ddim_plain_p2"])
def test_full_window_rollout_equals_the_published_one(name: str) -> None:
    """Tighter than a rollout needs: leaving out DDIM's scaling of the context changes no more than 4e-5."""
    assert rollout_error(load(name)) < 3e-6


@pytest.mark.parametrize("name", ["dit_wide_p1", "dit_plain_p2", "ddim_plain_p2"])
def test_kept_keys_give_the_published_rollout_until_the_window_slides(name: str) -> None:
    sampling = replace(SAMPLING, full_window=False)
    assert rollout_error(load(name), sampling, frames=WINDOW - CONTEXT) < 1e-5
    assert rollout_error(load(name), sampling, frames=WINDOW - CONTEXT + 1) > 1e-3


def test_noise_schedule_equals_the_published_one() -> None:
    golden = load("ddim_plain_p2")
    assert isinstance(golden.objective, VPrediction)
    ours = golden.objective.alphas_cumprod
    assert torch.allclose(ours.float(), golden.tensors["alphas_cumprod"], rtol=1e-5, atol=1e-8)
