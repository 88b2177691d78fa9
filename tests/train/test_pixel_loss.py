"""The loss of pixel decoders: the demo's, the paper's, and when its perceptual term begins."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rslwm.compute import generator
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.published.weights import MissingWeights
from rslwm.serialisation import ConfigError
from rslwm.study.config import PRESETS
from rslwm.train import pixel_loss
from rslwm.train.pixel_loss import PixelLoss, ms_ssim

CPU = torch.device("cpu")
IMAGE, TARGET = torch.rand(2, 3, 2, 48, 48, 3, generator=generator(0, "images"))


class Distance(nn.Module):
    """Mean difference of two images."""

    name = "difference"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).mean((1, 2, 3))


def test_the_default_is_absolute_and_squared_error() -> None:
    terms = PixelLoss(DecoderConfig(), 100, CPU)(IMAGE, TARGET, 0)
    error = IMAGE - TARGET
    assert {name: float(term) for name, term in terms.items()} == {
        "absolute": pytest.approx(float(error.abs().mean())),
        "squared": pytest.approx(8 * float(error.square().mean())),
    }


def test_the_published_loss_weighs_squared_error_and_structure() -> None:
    loss = PixelLoss(DecoderConfig(loss="published"), 100, CPU)
    terms = loss(IMAGE, TARGET, 0)
    assert float(terms["squared"]) == pytest.approx(float((IMAGE - TARGET).square().mean()))
    similarity = torch.stack([ms_ssim(IMAGE[b], TARGET[b]).mean() for b in range(3)]).mean()
    assert float(terms["ms-ssim"]) == pytest.approx(0.5 * (1 - float(similarity)))
    assert all(float(term) == pytest.approx(0, abs=1e-6) for term in loss(TARGET, TARGET, 0).values())


def test_the_perceptual_term_counts_after_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_loss, "open_perceptual", lambda kind, folder: Distance())
    config = DecoderConfig(loss="published", perceptual="lpips-vgg", perceptual_after=64)
    loss = PixelLoss(config, 100, CPU)
    assert "difference" not in loss(IMAGE, TARGET, 63)
    terms = loss(IMAGE, TARGET, 64)
    assert float(terms["difference"]) == pytest.approx(0.5 * float((IMAGE - TARGET).mean()))


def test_a_perceptual_term_that_never_counts_is_refused() -> None:
    config = DecoderConfig(perceptual="effnet-lite0", perceptual_after=100)
    with pytest.raises(ConfigError, match=r"perceptual_after 100 frames, and the training sees 100"):
        PixelLoss(config, 100, CPU)


def test_the_papers_loss_needs_its_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = replace(PRESETS["bridge"].decoder, perceptual_folder=str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(MissingWeights, match=r"vgg16-397923af\.pth"):
        PixelLoss(config, 10_000_000, CPU)


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (22, 2), (44, 3), (99, 4), (175, 4), (176, 5), (256, 5)])
def test_small_frames_are_compared_at_fewer_scales(side: int, scales: int) -> None:
    """Of a constant against another one only the luminance at the smallest scale differs from one."""
    a, b = torch.full((1, side, side, 3), 0.4), torch.full((1, side, side, 3), 0.6)
    luminance = (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4)
    weights = pixel_loss.SCALE_WEIGHTS[:scales]
    assert ms_ssim(a, b).item() == pytest.approx(luminance ** (weights[-1] / sum(weights)), abs=1e-3)


def test_frames_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match=r"windows of 11 px, the frames have 10 px"):
        ms_ssim(torch.zeros(1, 10, 10, 3), torch.zeros(1, 10, 10, 3))


def test_structure_falls_with_noise_and_its_gradient_is_finite() -> None:
    """Also where structure is inverted, at which similarities are cut off at zero."""
    target = TARGET[0]
    noise = torch.randn(target.shape, generator=generator(0, "noise"))
    values = [float(ms_ssim(target + s * noise, target).mean()) for s in (0.02, 0.1, 0.5)]
    assert 1 > values[0] > values[1] > values[2]
    for image in (IMAGE[0].clone(), 1 - target, torch.zeros_like(target)):
        image.requires_grad_()
        ms_ssim(image, target).sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()
