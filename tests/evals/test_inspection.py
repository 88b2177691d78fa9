"""Figures of an encoder that can be told in advance."""

import pytest
import torch
from einops import reduce, repeat

from rslwm.compute import generator
from rslwm.evals.inspection import inspect
from rslwm.latents.base import Encoder, EncoderConfig
from rslwm.types import LatentSpec


class Colours(Encoder):
    """Mean colour of 4 px patches, and back to even patches."""

    decodes = True

    def __init__(self) -> None:
        super().__init__(EncoderConfig(), 16)
        self.spec = LatentSpec("colours", "floor", (4, 4), 3)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return reduce(frames, "B T (h p) (w q) c -> B T h w c", "mean", p=4, q=4)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return repeat(latents, "B T h w c -> B T (h p) (w q) c", p=4, q=4)


class Blind(Colours):
    decodes = False


def even_patches(count: int) -> torch.Tensor:
    drawn = torch.rand(count, 4, 4, 3, generator=generator(0, "patches"))
    return repeat(drawn, "N h w c -> N (h p) (w q) c", p=4, q=4)


def test_what_the_latents_hold_comes_back():
    figures = inspect(Colours(), even_patches(7), batch=3)
    assert (figures.frames, figures.latents, figures.batch) == (7, (4, 4, 3), 3)
    assert figures.psnr == pytest.approx(60)
    assert figures.ssim == pytest.approx(1)
    assert figures.frames_per_second > 0


def test_what_they_lack_is_missed():
    noise = torch.rand(8, 16, 16, 3, generator=generator(0, "noise"))
    figures = inspect(Colours(), noise, batch=8)
    assert figures.psnr is not None
    within = torch.tensor(1 / 12 * 15 / 16)  # variance of uniform noise that a patch's mean leaves
    assert figures.psnr == pytest.approx(float(-10 * torch.log10(within)), abs=0.3)


def test_statistics_are_of_the_channels():
    frames = even_patches(50) * torch.tensor([1.0, 0.5, 0.0])
    figures = inspect(Blind(), frames, batch=50)
    assert figures.mean == pytest.approx((0, 0.25, 0.5), abs=0.03)
    assert figures.std == pytest.approx((0, 0.5 / 12**0.5, 1 / 12**0.5), abs=0.02)
    assert 1 < figures.effective_rank < 2
    assert figures.psnr is None
