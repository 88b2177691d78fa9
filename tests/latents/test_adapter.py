"""The S-VAE adapter computes what the published one computes, with the published weights, and learns."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import generator, seeded
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.adapters.kinds import SVAE, AdapterBlock, published_name
from rslwm.latents.base import EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.study.config import PRESETS

GOLDEN = Path(__file__).parents[1] / "golden/svae.safetensors"


@pytest.fixture(scope="module")
def golden() -> tuple[SVAE, dict[str, Tensor]]:
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    adapter = AdapterConfig(blocks=config["num_layers"], heads=config["num_heads"], hidden=config["intermediate_size"])
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


@pytest.mark.parametrize(("width", "parameters", "gflops"), [(1024, 38_110_400, 10.6), (1152, 46_412_352, 12.8)])
def test_sizes_are_those_of_the_paper(width: int, parameters: int, gflops: float) -> None:
    """Table 4: 38.1 M and 46.4 M parameters in all, and FLOPs of encoding a frame."""
    with torch.device("meta"):
        svae, features = SVAE(PRESETS["bridge"].adapter, width, 96), torch.zeros(1, 1, 16, 16, width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        svae.encode(features)
    assert sum(p.numel() for p in svae.parameters()) == parameters
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflops, rel=0.01)


@torch.no_grad()
def test_sizes_and_heads_travel_with_the_space(tmp_path: Path) -> None:
    """Another number of heads has tensors of the same shapes, so that nothing but the configuration tells."""
    adapter = AdapterConfig(blocks=2, heads=8, hidden=24)
    config = SpaceConfig("small-dino", 32, 4, adapter=adapter, encoder=EncoderConfig(width=16, depth=1, heads=2))
    with seeded(0, "weights"):
        space = LatentSpace(config).eval()
    space.save(tmp_path)
    loaded = LatentSpace.load(tmp_path)
    assert loaded.config.adapter == adapter
    frames = torch.rand(1, 2, 32, 32, 3, generator=generator(0, "frames"))
    assert torch.equal(loaded.encode(frames), space.encode(frames))
    other = LatentSpace(replace(config, adapter=replace(adapter, heads=2))).eval()
    other.load_state_dict(space.state_dict())
    assert not torch.allclose(other.encode(frames), space.encode(frames))


@torch.no_grad()
def test_the_gelu_is_exact() -> None:
    """On inputs large enough to tell, unlike the golden ones: between identities it adds x times the normal CDF."""
    block = AdapterBlock(4, 2, 4)
    block.norm1, block.norm2, block.fc1, block.fc2 = (nn.Identity() for _ in range(4))
    block.out.weight.zero_()
    block.out.bias.zero_()
    x = torch.linspace(-3, 3, 12).reshape(1, 3, 4)
    assert torch.allclose(block(x) - x, x * torch.distributions.Normal(0, 1).cdf(x), atol=1e-6)
