"""A space of several camera views: each is encoded and decoded as if it were alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.compute import generator, seeded
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import EXTERNAL, ExternalConfig, LatentSpace, SpaceConfig
from rslwm.latents.views import apart, one_view, side_by_side

VIEWS = 3
SINGLE = SpaceConfig(
    "small-dino",
    32,
    channels=4,
    decode=True,
    encoder=EncoderConfig(width=16, depth=1, heads=2),
    adapter=AdapterConfig(heads=2),
    decoder=DecoderConfig(width=16),
)
FRAMES = torch.rand(2, 4, 32, VIEWS * 32, 3, generator=generator(0, "frames"))


@pytest.fixture
def single() -> LatentSpace:
    with seeded(0, "weights"), torch.no_grad():
        space = LatentSpace(SINGLE).eval()
        space.normaliser.fit(space.compress(space.features(apart(FRAMES, VIEWS))))
    return space


@pytest.fixture
def wide(single: LatentSpace) -> LatentSpace:
    space = LatentSpace(replace(SINGLE, views=VIEWS)).eval()
    space.load_state_dict(single.state_dict())  # no tensor depends on the number of views
    return space


def test_apart_and_side_by_side_are_inverse_and_keep_the_order() -> None:
    x = torch.arange(2 * 3 * 4 * 6 * 5.0).reshape(2, 3, 4, 6, 5)
    views = apart(x, 3)
    assert torch.equal(side_by_side(views, 3), x)
    for number in range(3):
        assert torch.equal(views[number], x[0, :, :, 2 * number : 2 * number + 2])
        assert torch.equal(views[3 + number], one_view(x, number, 3)[1])


@torch.no_grad()
def test_every_view_is_encoded_as_if_it_were_alone(single: LatentSpace, wide: LatentSpace) -> None:
    z = wide.encode(FRAMES)
    assert z.shape == (2, 4, *wide.spec.grid, 4)
    for number in range(VIEWS):
        alone = single.encode(one_view(FRAMES, number, VIEWS))
        torch.testing.assert_close(one_view(z, number, VIEWS), alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_swapped_views_have_swapped_latents(wide: LatentSpace) -> None:
    def swapped(x: torch.Tensor) -> torch.Tensor:
        first, second, third = x.chunk(VIEWS, -2)
        return torch.cat([second, first, third], -2)

    torch.testing.assert_close(wide.encode(swapped(FRAMES)), swapped(wide.encode(FRAMES)), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_every_view_is_decoded_as_if_it_were_alone(single: LatentSpace, wide: LatentSpace) -> None:
    z = torch.randn(2, 4, *wide.spec.grid, 4, generator=generator(0, "latents"))
    frames = wide.decode(z)
    assert frames.shape == FRAMES.shape
    for number in range(VIEWS):
        alone = single.decode(one_view(z, number, VIEWS))
        torch.testing.assert_close(one_view(frames, number, VIEWS), alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_its_grid_is_as_wide_as_all_views_and_survives_on_disk(wide: LatentSpace, tmp_path: Path) -> None:
    h, w = wide.view_spec.grid
    assert (h, w) == wide.encoder.spec.grid
    assert wide.spec.grid == (h, VIEWS * w)
    wide.save(tmp_path)
    loaded = LatentSpace.load(tmp_path)
    assert loaded.spec == wide.spec
    assert torch.equal(loaded.encode(FRAMES), wide.encode(FRAMES))


@torch.no_grad()
def test_features_of_another_program_are_compressed_and_decoded_view_by_view() -> None:
    external = ExternalConfig("theirs", "semantic", (4, 4), channels=16)
    config = replace(SINGLE, reference=EXTERNAL, channels=0, decoder_channels=4, external=external)
    with seeded(0, "weights"):
        single = LatentSpace(config).eval()
    wide = LatentSpace(replace(config, views=VIEWS)).eval()
    wide.load_state_dict(single.state_dict())
    features = torch.randn(1, 2, 4, VIEWS * 4, 16, generator=generator(0, "features"))
    alone = torch.cat([single.decode(part) for part in features.chunk(VIEWS, -2)], -2)
    torch.testing.assert_close(wide.decode(features), alone, rtol=1e-5, atol=1e-5)


def test_another_number_of_views_is_refused(single: LatentSpace, wide: LatentSpace) -> None:
    with pytest.raises(ValueError, match=r"small-dino\+4 reads 3 square view\(s\) side by side, not 32 x 64 px"):
        wide.encode(FRAMES[..., :64, :])
    with pytest.raises(ValueError, match=r"reads 1 square view\(s\)"):
        single.encode(FRAMES)
