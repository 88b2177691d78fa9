"""The Haar transform and the patches made of it."""

import torch

from rslwm.latents.base import EncoderConfig
from rslwm.latents.small.autoencoders import WaveletTransformer, haar
from rslwm.latents.small.backbone import PatchTransformer

IMAGE = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))


def test_the_transform_is_orthonormal() -> None:
    basis = torch.eye(16).reshape(16, 4, 4, 1)
    matrix = haar(haar(basis)).flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16))


def test_a_flat_image_has_its_mean_in_the_first_band_and_nothing_else() -> None:
    bands = haar(torch.full((1, 4, 4, 3), 0.25))
    torch.testing.assert_close(bands[..., :3], torch.full((1, 2, 2, 3), 0.5))
    assert bands[..., 3:].abs().max() == 0


def test_bands_tell_the_direction_of_an_edge() -> None:
    columns = torch.tensor([1.0, -1.0]).expand(2, 2)[None, ..., None]
    assert haar(columns).flatten().tolist() == [0, 2, 0, 0]
    assert haar(columns.transpose(1, 2)).flatten().tolist() == [0, 0, 2, 0]


def test_patches_are_as_many_and_as_wide_as_pixel_patches() -> None:
    config = EncoderConfig(width=16, depth=1, heads=2, patch=4)
    wavelets, pixels = WaveletTransformer(config, 8), PatchTransformer(config, 8)
    assert wavelets.patches(IMAGE).shape == pixels.patches(IMAGE).shape
    count = [sum(p.numel() for p in model.parameters()) for model in (wavelets, pixels)]
    assert count[0] == count[1]


def test_a_patch_of_coefficients_depends_on_its_own_pixels_only() -> None:
    model = WaveletTransformer(EncoderConfig(width=16, depth=1, heads=2, patch=4), 8)
    changed = IMAGE.clone()
    changed[:, :4, 4:] = 0
    moved = (model.patches(changed) != model.patches(IMAGE)).any(-1)
    assert moved.tolist() == [[False, True, False, False]] * 2
