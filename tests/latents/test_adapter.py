"""The S-VAE adapter computes what the published one computes, with the published weights, and learns."""

import json
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from torch import Tensor

from rslwm.compute import generator, seeded
from rslwm.config import AdapterConfig
from rslwm.latents.adapter import SVAE, published_name

GOLDEN = Path(__file__).parents[1] / "golden/svae.safetensors"


@pytest.fixture(scope="module")
def golden() -> tuple[SVAE, dict[str, Tensor]]:
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    ratio = config["intermediate_size"] / config["input_dim"]
    adapter = AdapterConfig(blocks=config["num_layers"], heads=config["num_heads"], mlp_ratio=ratio)
    svae = SVAE(adapter, config["input_dim"], config["latent_dim"])
    names = {f"weights.{published_name(name)}": name for name in svae.state_dict()}
    svae.load_state_dict({names[k]: v for k, v in tensors.items() if k.startswith("weights.")}, strict=True)
    return svae, tensors


@torch.no_grad()
def test_published_weights_encode_to_the_published_latents(golden: tuple[SVAE, dict[str, Tensor]]) -> None:
    svae, tensors = golden
    torch.testing.assert_close(svae.encode(tensors["z"]), tensors["encoded"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_published_weights_decode_to_the_published_features(golden: tuple[SVAE, dict[str, Tensor]]) -> None:
    svae, tensors = golden
    torch.testing.assert_close(svae.decode(tensors["encoded"]), tensors["decoded"], rtol=0, atol=1e-5)


def small() -> SVAE:
    with seeded(0, "weights"):
        return SVAE(AdapterConfig(heads=2), 12, 4)


def test_every_frame_is_compressed_by_itself() -> None:
    svae, features = small(), torch.randn(2, 3, 4, 4, 12, generator=generator(0, "features"))
    alone = torch.stack([svae.encode(features[:, t : t + 1])[:, 0] for t in range(3)], 1)
    torch.testing.assert_close(svae.encode(features), alone)


def test_the_weight_of_the_divergence_rises_over_the_first_fifth() -> None:
    svae, features = small(), torch.randn(2, 1, 4, 4, 12, generator=generator(0, "features"))

    def divergence(fraction: float) -> float:
        return float(svae.loss(features, fraction, generator(0, "noise"))[1]["kl"].detach())

    assert divergence(0.0) == 0
    assert divergence(0.1) == pytest.approx(divergence(0.2) / 2)
    assert divergence(1.0) == divergence(0.2)


def test_the_divergence_is_that_of_the_closed_form() -> None:
    svae, features = small(), torch.randn(1, 1, 4, 4, 12, generator=generator(0, "features"))
    mean, log_variance = svae.moments(rearrange(features, "B T h w D -> (B T) (h w) D"))
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    closed = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean()
    terms = svae.loss(features, 1.0, generator(0, "noise"))[1]
    torch.testing.assert_close(terms["kl"], svae.config.kl_weight * closed)


def test_the_loss_is_the_sum_of_its_terms_and_repeats() -> None:
    svae, features = small(), torch.randn(2, 1, 4, 4, 12, generator=generator(0, "features"))
    value, terms = svae.loss(features, 0.5, generator(0, "noise"))
    torch.testing.assert_close(value, torch.stack(list(terms.values())).sum())
    assert torch.equal(value, svae.loss(features, 0.5, generator(0, "noise"))[0])
    assert not torch.equal(value, svae.loss(features, 0.5, generator(1, "noise"))[0])


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"adapter\.heads 5 does not divide the 12 channels"):
        SVAE(AdapterConfig(heads=5), 12, 4)
