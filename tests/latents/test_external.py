"""A space whose features another program makes: compressed and decoded here, encoded elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rslwm.compute import generator, seeded
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import EXTERNAL, ExternalConfig, LatentSpace, SpaceConfig, TwinDecoder
from rslwm.types import DataError

FEATURES = torch.randn(2, 3, 4, 4, 12, generator=generator(0, "features"))
NATIVE = SpaceConfig(
    EXTERNAL,
    16,
    decode=True,
    decoder_channels=6,
    external=ExternalConfig("elsewhere-1", "semantic", (4, 4), 12),
    adapter=AdapterConfig(heads=2),
    decoder=DecoderConfig(width=16),
)


def build(config: SpaceConfig) -> LatentSpace:
    with seeded(0, "weights"):
        return LatentSpace(config).eval()


def test_it_knows_its_shape_and_says_what_to_do_instead_of_encoding() -> None:
    space = build(NATIVE)
    assert (space.spec.name, space.spec.family, space.spec.grid, space.spec.channels) == (
        "elsewhere-1", "semantic", (4, 4), 12,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"elsewhere-1: frames can't be encoded here.*space\.compress\(features\)"):
        space.encode(torch.zeros(1, 1, 16, 16, 3))


@torch.no_grad()
def test_a_native_space_is_decoded_through_an_adapter() -> None:
    space = build(NATIVE)
    space.normaliser.fit(FEATURES)
    pixels = space.pixels
    assert isinstance(pixels, TwinDecoder)
    latents = space.normaliser(space.compress(FEATURES))
    expected = pixels.decoder(pixels.adapter.encode(FEATURES)).clamp(0, 1)
    torch.testing.assert_close(space.decode(latents), expected)


@torch.no_grad()
@pytest.mark.parametrize("config", [NATIVE, replace(NATIVE, channels=6, decoder_channels=0)])
def test_it_is_saved_and_loaded(config: SpaceConfig, tmp_path: Path) -> None:
    space = build(config)
    space.save(tmp_path)
    loaded = LatentSpace.load(tmp_path)
    assert (loaded.config, loaded.spec) == (space.config, space.spec)
    latents = space.compress(FEATURES)
    assert torch.equal(loaded.compress(FEATURES), latents)
    assert torch.equal(loaded.decode(latents), space.decode(latents))


def test_files_are_those_of_before_pixels_were_one_module(tmp_path: Path) -> None:
    build(NATIVE).save(tmp_path)
    tensors = load_file(tmp_path / "space.safetensors")
    parts = {name.partition(".")[0] for name in tensors}
    assert parts == {"normaliser", "decoder", "decoder_adapter", "decoder_normaliser"}
    # One with an adapter to a decoder that it lacks, as they were written.
    undecoded = {name: x for name, x in tensors.items() if not name.startswith("decoder.")}
    save_file(undecoded, tmp_path / "space.safetensors")
    text = (tmp_path / "space.yaml").read_text()
    (tmp_path / "space.yaml").write_text(text.replace("decode: true", "decode: false"))
    assert LatentSpace.load(tmp_path).pixels is None
