"""The paper's pixel decoder computes what the published one computes, at the paper's size, and belongs to a space."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.compute import generator, seeded
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.ldm_decoder import LDMDecoder, PixelAttention
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.study.config import PRESETS
from rslwm.types import LatentSpec

GOLDEN = Path(__file__).parents[1] / "golden/pixel_decoder.safetensors"
SMALL = DecoderConfig(kind="ldm", width=8, multipliers=(1, 1, 2), blocks=1, heads=4)


@pytest.fixture(scope="module")
def golden() -> tuple[LDMDecoder, dict[str, Tensor]]:
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    decoder = LDMDecoder(
        replace(
            SMALL,
            width=config["base_channels"],
            multipliers=tuple(config["channel_multipliers"]),
            blocks=config["num_res_blocks"],
        ),
        LatentSpec("golden", "semantic", (4, 4), config["latent_dim"]),
        16,
    )
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    decoder.load_state_dict(weights, strict=True)
    return decoder, tensors


@torch.no_grad()
def test_published_weights_give_the_published_frames(golden: tuple[LDMDecoder, dict[str, Tensor]]) -> None:
    decoder, tensors = golden
    torch.testing.assert_close(decoder(tensors["z"]), tensors["rgb"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "millions"), [(160, 177.0), (128, 113.3)])
def test_parameters_are_those_of_the_paper(width: int, millions: float) -> None:
    with torch.device("meta"):
        config = DecoderConfig(kind="ldm", width=width)
        decoder = LDMDecoder(config, LatentSpec("paper", "semantic", (16, 16), 96), 256)
    assert sum(p.numel() for p in decoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@torch.no_grad()
def test_flops_are_those_of_the_paper() -> None:
    """Table 4: 428.3 GFLOP for a frame of 256 px."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        decoder = LDMDecoder(PRESETS["bridge"].decoder, LatentSpec("paper", "semantic", (16, 16), 96), 256)
        assert decoder(torch.zeros(1, 1, 16, 16, 96)).shape == (1, 1, 256, 256, 3)
    assert counter.get_total_flops() / 1e9 == pytest.approx(428.3, rel=0.01)


@torch.no_grad()
def test_attention_is_torchs_multi_head_attention_behind_a_norm() -> None:
    with seeded(0, "weights"):
        ours, theirs = PixelAttention(16, heads=4), nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([p.weight.flatten(1) for p in (ours.q, ours.k, ours.v)]))
    theirs.in_proj_bias.copy_(torch.cat([p.bias for p in (ours.q, ours.k, ours.v)]))
    theirs.out_proj.weight.copy_(ours.proj_out.weight.flatten(1))
    theirs.out_proj.bias.copy_(ours.proj_out.bias)
    x = torch.randn(2, 16, 3, 5, generator=generator(0, "x"))
    tokens = ours.norm(x).flatten(2).mT
    expected = x + theirs(tokens, tokens, tokens, need_weights=False)[0].mT.unflatten(2, (3, 5))
    torch.testing.assert_close(ours(x), expected)


@torch.no_grad()
def test_frames_are_decoded_one_by_one(golden: tuple[LDMDecoder, dict[str, Tensor]]) -> None:
    decoder, tensors = golden
    torch.testing.assert_close(decoder(tensors["z"][:, 1:2]), decoder(tensors["z"])[:, 1:2])


def test_other_sizes_than_the_levels_make_are_refused() -> None:
    spec = LatentSpec("x", "semantic", (4, 4), 8)
    with pytest.raises(
        ValueError, match=r"3 levels of decoder\.multipliers make 16 x 16 px of a 4x4 grid, not 32 x 32"
    ):
        LDMDecoder(SMALL, spec, 32)
    with pytest.raises(ValueError, match=r"make 16 x 24 px of a 4x6 grid"):
        LDMDecoder(SMALL, replace(spec, grid=(4, 6)), 16)
    with pytest.raises(ValueError, match=r"decoder\.heads 3 does not divide the 16 channels"):
        LDMDecoder(replace(SMALL, heads=3), spec, 16)


@torch.no_grad()
def test_a_space_is_saved_and_loaded_with_it(tmp_path: Path) -> None:
    config = SpaceConfig("small-vae", 32, decode=True, decoder=replace(SMALL, multipliers=(1, 1, 1, 2)),
                         encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4))  # fmt: skip
    with seeded(0, "weights"):
        space = LatentSpace(config).eval()
    space.save(tmp_path)
    latents = torch.randn(1, 2, *space.spec.grid, 4, generator=generator(0, "latents"))
    loaded = LatentSpace.load(tmp_path)
    assert loaded.pixels is not None
    assert isinstance(loaded.pixels.decoder, LDMDecoder)
    assert torch.equal(loaded.decode(latents), space.decode(latents))
    assert loaded.decode(latents).shape == (1, 2, 32, 32, 3)
