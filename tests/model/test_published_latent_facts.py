"""Facts about the published adapter and pixel decoder that the golden vectors pin down: changing one breaks one.

Two facts are beyond them, since attention hardly matters with these weights and feed-forwards stay small: the number of
heads, and that the GELU is exact (its approximation by a tanh changes 2e-7).
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from mutations import torch_functions
from published import GOLDEN, relative_error
from rslwm.latents import ldm_decoder as decoder_module
from rslwm.latents.adapters import svae as adapter_module
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.adapters.svae import SVAE, AdapterBlock, published_name
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.ldm_decoder import LDMDecoder, ResidualBlock
from rslwm.types import LatentSpec

TOLERANCE = 1e-5
Mutation = Callable[[Any, pytest.MonkeyPatch], None]


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


def each(kind: type[nn.Module], inside: type[nn.Module], then: Callable[[Any], None]) -> Mutation:
    """A change to all modules of a kind that are children of another kind."""

    def mutate(network: nn.Module, patch: pytest.MonkeyPatch) -> None:
        found = [m for parent in network.modules() if isinstance(parent, inside) for m in parent.children()]
        found = [module for module in found if isinstance(module, kind)]
        assert found
        for module in found:
            then(module)

    return mutate


def setting(name: str, value: Callable[[Any], float]) -> Callable[[Any], None]:
    return lambda module: setattr(module, name, value(module))


def post_norm(network: SVAE, patch: pytest.MonkeyPatch) -> None:
    for block in (*network.encoder, *network.decoder):
        norm, block.norm1, block.norm2 = block.norm2, nn.Identity(), nn.Identity()
        block.register_forward_hook(lambda _, inputs, out, norm=norm: norm(out))


def second_half(network: SVAE, patch: pytest.MonkeyPatch) -> None:
    for parameter in network.to_moments.parameters():
        parameter.data = parameter.data.roll(len(parameter) // 2, 0)


def without_sigmoid(network: LDMDecoder, patch: pytest.MonkeyPatch) -> None:
    network.register_forward_hook(lambda _, inputs, rgb: rgb.logit().clamp(0, 1))


ADAPTER: dict[str, Mutation] = {
    "GELU": torch_functions(adapter_module, gelu=lambda x: x * (1.702 * x).sigmoid()),
    "norms before": post_norm,
    "blocks' eps 1e-12": each(nn.LayerNorm, AdapterBlock, setting("eps", lambda norm: 1e-5)),
    "final norms' eps 1e-5": each(nn.LayerNorm, SVAE, setting("eps", lambda norm: 1e-12)),
    "mean, then variance": second_half,
}
DECODER: dict[str, Mutation] = {
    "SiLU": torch_functions(decoder_module, silu=F.gelu),
    "nearest pixels": torch_functions(
        decoder_module, interpolate=lambda x, **_: F.interpolate(x, scale_factor=2.0, mode="bilinear")
    ),
    "a group a channel": each(nn.GroupNorm, ResidualBlock, setting("num_groups", lambda norm: norm.num_groups // 2)),
    "eps 1e-6": each(nn.GroupNorm, ResidualBlock, setting("eps", lambda norm: 1e-5)),
    "a sigmoid": without_sigmoid,
}


@pytest.mark.parametrize("mutate", ADAPTER.values(), ids=ADAPTER)
def test_changing_a_fact_changes_the_adapter(mutate: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    svae, tensors = adapter()
    assert max(adapter_errors(svae, tensors)) < TOLERANCE
    mutate(svae, monkeypatch)
    assert max(adapter_errors(svae, tensors)) > 10 * TOLERANCE


@pytest.mark.parametrize("mutate", DECODER.values(), ids=DECODER)
def test_changing_a_fact_changes_the_decoder(mutate: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, tensors = pixel_decoder()
    assert decoder_error(decoder, tensors) < TOLERANCE
    mutate(decoder, monkeypatch)
    assert decoder_error(decoder, tensors) > 10 * TOLERANCE


@torch.no_grad()
def test_the_gelu_is_exact() -> None:
    """On inputs large enough to tell: through identities around it, what a block adds is x times the normal CDF."""
    block = AdapterBlock(4, 2, 4)
    block.norm1, block.norm2, block.fc1, block.fc2 = (nn.Identity() for _ in range(4))
    block.out.weight.zero_()
    block.out.bias.zero_()
    x = torch.linspace(-3, 3, 12).reshape(1, 3, 4)
    assert torch.allclose(block(x) - x, x * torch.distributions.Normal(0, 1).cdf(x), atol=1e-6)
