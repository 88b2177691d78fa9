"""small-vjepa: masked latent prediction on clips (V-JEPA), used frame by frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch
from rslwm.latents.small.backbone import Block
from rslwm.latents.small.distillation import SmallSemantic, photometric, random_mask, standardise, variance_covariance


@ENCODERS.register("small-vjepa")
class SmallVJEPA(SmallSemantic):
    """From an earlier frame and a heavily masked later one, predict the teacher's tokens of the later frame.

    No actions: what moves must be told from the visible patches, so the latents learn what changes.
    """

    name = "small-vjepa"
    mask_share = 0.6
    guard_weight = 0.2

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        D = config.width
        self.join = nn.Linear(2 * D, D)
        self.predictor = nn.Sequential(Block(D, config.heads), Block(D, config.heads), nn.LayerNorm(D), nn.Linear(D, D))

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        earlier, later = batch.frames.unbind(1)
        mask = random_mask(len(later), self.backbone.side**2, self.mask_share, generator).to(later.device)
        with torch.no_grad():
            target = standardise(self.backbone(later).float())
        context = self.student(photometric(earlier, generator))
        visible = self.masked_student(photometric(later, generator), mask)
        guess = self.predictor(self.join(torch.cat([context, visible], -1))).float()
        terms = {
            "prediction": F.smooth_l1_loss(guess[mask], target[mask]),
            "guard": self.guard_weight * variance_covariance(context.flatten(0, 1), generator),
        }
        return torch.stack(list(terms.values())).sum(), terms
