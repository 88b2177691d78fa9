"""small-vavae: the KL autoencoder with its latents aligned to a frozen semantic network (VA-VAE, arXiv 2501.01423)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch
from rslwm.latents.small.reconstruction import SmallAutoencoder


@ENCODERS.register("small-vavae")
class SmallVAVAE(SmallAutoencoder):
    """Alignment as in VA-VAE: each token's cosine to the frozen feature, and the matrix of cosines between tokens.

    Both have a margin, so that alignment stops where it would cost reconstruction. The published adaptive weight is a
    constant here. The frozen network is the small-dino of the same study; its training is not counted in this
    encoder's compute, which the study prints.
    """

    name = "small-vavae"
    teacher = "small-dino"
    weight = 0.2
    token_margin, matrix_margin = 0.5, 0.25

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.project = nn.Linear(config.channels, config.width, bias=False)

    def extra_terms(self, batch: FrameBatch, z: Tensor) -> dict[str, Tensor]:
        if batch.features is None:
            raise ValueError("small-vavae needs the features of its frozen network (FrameBatch.features is None)")
        target = F.normalize(rearrange(batch.features.float(), "B T h w C -> (B T) (h w) C"), dim=-1)
        ours = F.normalize(self.project(z).float(), dim=-1)
        token = F.relu(1 - self.token_margin - (ours * target).sum(-1)).mean()
        cosines, wanted = ours @ ours.transpose(1, 2), target @ target.transpose(1, 2)
        matrix = F.relu((cosines - wanted).abs() - self.matrix_margin).mean()
        return {"alignment": self.weight * (token + matrix)}
