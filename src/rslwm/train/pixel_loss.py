"""What a pixel decoder minimises (paper section 5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.perceptual import open_perceptual
from rslwm.serialisation import ConfigError

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, from the frame's own resolution down (Wang, Simoncelli and Bovik, 2003)."""
WINDOW = 11
"""Side in pixels of the window in which structure is compared, at every scale."""


class PixelLoss:
    """Weighted terms of the loss of decoded frames, of which a training sees so many; their sum is to be minimised.

    Raises:
        MissingWeights: the perceptual network isn't on this machine.
        ConfigError: the perceptual distance would begin to count after the training's end.
    """

    def __init__(self, config: DecoderConfig, frames: int, device: torch.device) -> None:
        self.config = config
        self.perceptual = None
        if config.perceptual != "none":
            if config.perceptual_after >= frames:
                late = f"counts only after decoder.perceptual_after {config.perceptual_after} frames"
                raise ConfigError(
                    f"decoder.perceptual is {config.perceptual}, but {late}, and the training sees {frames}; "
                    "lower the one, or set the other to none"
                )
            self.perceptual = open_perceptual(config.perceptual, config.perceptual_folder).to(device)

    def __call__(self, image: Tensor, target: Tensor, seen: int) -> dict[str, Tensor]:
        """(B, T, H, W, 3) twice, in [0, 1], and the number of frames seen before -> scalars by name."""
        if self.config.loss == "published":
            structure = 1 - ms_ssim(image.flatten(0, 1), target.flatten(0, 1)).mean()
            terms = {"squared": F.mse_loss(image, target), "ms-ssim": self.config.structure_weight * structure}
        else:
            terms = {"absolute": (image - target).abs().mean(), "squared": 8 * F.mse_loss(image, target)}
        if self.perceptual is not None and seen >= self.config.perceptual_after:
            distance = self.perceptual(image.flatten(0, 1), target.flatten(0, 1)).mean()
            terms[self.perceptual.name] = self.config.perceptual_weight * distance
        return terms


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity of (N, H, W, 3) with the same, in [0, 1] -> (N,).

    Five scales, each at half the side of the one before, need 176 px. Smaller frames are compared at the first scales
    only, with weights that still sum to one: four from 99 px, three from 44 px, two from 22 px, one from 11 px.
    ValueError if they are smaller than the window.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure  # takes two seconds

    weights = torch.tensor(SCALE_WEIGHTS[: _scales(min(a.shape[1:3]))])
    x, y = (rearrange(images.float(), "N H W c -> N c H W") for images in (a, b))
    with torch.autocast(a.device.type, enabled=False):
        return multiscale_structural_similarity_index_measure(
            x, y, data_range=1.0, betas=tuple((weights / weights.sum()).tolist()), reduction="none"
        )


def _scales(side: int) -> int:
    """As many as leave a window's side at the smallest, and torchmetrics accepts."""
    for scales in range(len(SCALE_WEIGHTS), 0, -1):
        if side >> (scales - 1) >= WINDOW and side // max(1, scales - 1) ** 2 >= WINDOW:
            return scales
    raise ValueError(f"MS-SSIM compares windows of {WINDOW} px, the frames have {side} px; use decoder.loss absolute")
