"""The adapter and the pixel decoder compute what the published ones compute, with the published weights.

Beyond these vectors is that the GELU is exact, since feed-forwards stay small: a tanh's approximation changes 2e-7.
"""

import json
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from published import GOLDEN, relative_error
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.adapters.svae import SVAE, AdapterBlock, published_name
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.ldm_decoder import LDMDecoder
from rslwm.types import LatentSpec

TOLERANCE = 1e-5


def read(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights, inputs and outputs, configuration."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        config = json.loads(file.metadata()["config"])
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    return weights, tensors, config


def adapter() -> tuple[SVAE, dict[str, Tensor]]:
    weights, tensors, config = read("svae")
    settings = AdapterConfig(blocks=config["num_layers"], heads=config["num_heads"], hidden=config["intermediate_size"])
    svae = SVAE(settings, config["input_dim"], config["latent_dim"])
    svae.load_state_dict({name: weights[published_name(name)] for name in svae.state_dict()})
    return svae, tensors


def pixel_decoder() -> tuple[LDMDecoder, dict[str, Tensor]]:
    weights, tensors, config = read("pixel_decoder")
    settings = DecoderConfig(
        kind="ldm",
        width=config["base_channels"],
        multipliers=tuple(config["channel_multipliers"]),
        blocks=config["num_res_blocks"],
    )
    decoder = LDMDecoder(settings, LatentSpec("golden", "semantic", (4, 4), config["latent_dim"]), 16)
    decoder.load_state_dict(weights)
    return decoder, tensors


@torch.no_grad()
def adapter_errors(svae: SVAE, tensors: dict[str, Tensor]) -> tuple[float, float]:
    """Of encoding and of decoding."""
    encoded, decoded = svae.encode(tensors["z"]), svae.decode(tensors["encoded"])
    return relative_error(encoded, tensors["encoded"]), relative_error(decoded, tensors["decoded"])


@torch.no_grad()
def decoder_error(decoder: LDMDecoder, tensors: dict[str, Tensor]) -> float:
    return relative_error(decoder(tensors["z"]), tensors["rgb"])


def test_the_adapter_is_the_published_one() -> None:
    assert max(adapter_errors(*adapter())) < TOLERANCE


def test_the_pixel_decoder_is_the_published_one() -> None:
    assert decoder_error(*pixel_decoder()) < TOLERANCE


@torch.no_grad()
def test_the_gelu_is_exact() -> None:
    """On inputs large enough to tell: through identities around it, what a block adds is x times the normal CDF."""
    block = AdapterBlock(4, 2, 4)
    block.norm1, block.norm2, block.fc1, block.fc2 = (nn.Identity() for _ in range(4))
    block.out.weight.zero_()
    block.out.bias.zero_()
    x = torch.linspace(-3, 3, 12).reshape(1, 3, 4)
    assert torch.allclose(block(x) - x, x * torch.distributions.Normal(0, 1).cdf(x), atol=1e-6)
