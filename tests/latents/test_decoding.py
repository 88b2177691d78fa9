"""Whose decoder makes a space's pixels: one of ours, the encoder's own, or that of a compressed twin."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from rslwm.compute import generator, seeded
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import ENCODERS, Encoder, EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, OwnDecoder, SpaceConfig, TrainedDecoder, TwinDecoder
from rslwm.types import DataError, LatentSpec

SIZE, PATCH = 16, 4


class Mosaic(Encoder):
    """Mean colours of patches, in three channels and their negatives in three more."""

    decodes = True

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.spec = LatentSpec("mosaic", "reconstruction", (SIZE // PATCH,) * 2, 6)

    def encode(self, frames: Tensor) -> Tensor:
        means = reduce(frames, "B T (h p) (w q) c -> B T h w c", "mean", p=PATCH, q=PATCH)
        return torch.cat([means, -means], -1)

    def decode(self, latents: Tensor) -> Tensor:
        means = (latents[..., :3] - latents[..., 3:]) / 2
        return repeat(means, "B T h w c -> B T (h p) (w q) c", p=PATCH, q=PATCH)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS._entries, "mosaic", Mosaic)


def frames(views: int = 1) -> Tensor:
    return torch.rand(2, 3, SIZE, views * SIZE, 3, generator=generator(0, "frames"))


def opened(**settings: object) -> LatentSpace:
    config = SpaceConfig("mosaic", SIZE, adapter=AdapterConfig(heads=2), decoder=DecoderConfig(width=16))
    with seeded(0, "space"):
        space = LatentSpace(replace(config, **settings))  # type: ignore[arg-type]
    space.normaliser.fit(torch.rand(50, space.spec.channels, generator=generator(1, "statistics")) + 2)
    return space.eval()


@pytest.mark.parametrize("views", [1, 2])
def test_an_encoders_own_decoder_undoes_normalisation_and_views(views: int, tmp_path: Path) -> None:
    space = opened(views=views)
    space.set_pixels(OwnDecoder())
    space.save(tmp_path)
    space, x = LatentSpace.load(tmp_path), frames(views)
    means = reduce(x, "B T (h p) (w q) c -> B T h w c", "mean", p=PATCH, q=PATCH)
    expected = repeat(means, "B T h w c -> B T (h p) (w q) c", p=PATCH, q=PATCH)
    torch.testing.assert_close(space.decode(space.encode(x)), expected)
    assert not any(name.startswith("pixels") for name in space.state_dict())


def test_an_adapter_is_undone_before_the_encoders_own_decoder() -> None:
    space = opened(channels=2)
    space.set_pixels(OwnDecoder())
    assert space.adapter is not None
    z = torch.randn(1, 1, 4, 4, 2, generator=generator(0, "z"))
    expected = space.encoder.decode(space.adapter.decode(space.normaliser.inverse(z))).clamp(0, 1)
    torch.testing.assert_close(space.decode(z), expected)


def test_own_decoders_are_taken_only_where_they_are_asked_for() -> None:
    space = opened(decode=True)
    assert isinstance(space.pixels, TrainedDecoder)
    assert isinstance(opened(decode=True, decoder=DecoderConfig(own=True)).pixels, OwnDecoder)
    with pytest.raises(DataError, match="has no pixel decoder"):
        opened().decode(torch.zeros(1, 1, 4, 4, 6))


@torch.no_grad()
def test_a_native_space_decodes_as_its_compressed_twin_would(tmp_path: Path) -> None:
    native, twin = opened(), opened(channels=2, decode=True)
    native.set_pixels(TwinDecoder.of(twin))
    native.save(tmp_path)
    space, x = LatentSpace.load(tmp_path), frames()
    torch.testing.assert_close(space.decode(space.encode(x)), twin.decode(twin.encode(x)))
    assert space.spec == native.spec
    assert rearrange(space.encode(x), "B T h w C -> C (B T h w)").shape[0] == 6
