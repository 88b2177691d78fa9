"""small-dino: self-distillation over crops and patches (DINO, iBOT; the idea behind DINOv2 and Web-DINO)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch
from rslwm.latents.small.backbone import follow
from rslwm.latents.small.distillation import SmallSemantic, photometric, random_mask, variance_covariance


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Soft assignments (N, P) whose prototypes are used equally often (Sinkhorn-Knopp, as in DINOv2)."""
    q = ((logits - logits.max()) / temperature).exp()
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True)
        q = q / q.sum(1, keepdim=True)
    return q


def random_crop(frames: Tensor, generator: torch.Generator, smallest: float = 0.5) -> Tensor:
    """A square crop of each image, side ``smallest`` to 1 of the whole, resized back; (B, H, W, 3)."""
    B = len(frames)
    size = smallest + (1 - smallest) * torch.rand(B, generator=generator)
    shift = (1 - size)[:, None] * (2 * torch.rand(B, 2, generator=generator) - 1)
    theta = torch.zeros(B, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = size, size, shift
    images = frames.permute(0, 3, 1, 2)
    grid = F.affine_grid(theta.to(frames), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


@ENCODERS.register("small-dino")
class SmallDINO(SmallSemantic):
    """Half of the batch predicts the prototypes of masked patches, the other half, from a crop, those of the whole."""

    name = "small-dino"
    prototypes, mask_share = 256, 0.5
    guard_weight, crop_weight = 0.2, 0.2
    student_temperature, teacher_temperature = 0.1, 0.06

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        D = config.width
        self.head = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))
        self.assign = nn.Linear(D, self.prototypes, bias=False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.teacher_assign = copy.deepcopy(self.assign).requires_grad_(False)

    @torch.no_grad()
    def update(self, fraction: float) -> None:
        super().update(fraction)
        follow(self.teacher_head, self.head, self.momentum[0])
        follow(self.teacher_assign, self.assign, self.momentum[0])

    @staticmethod
    def _logits(features: Tensor, head: nn.Module, assign: nn.Linear) -> Tensor:
        return F.linear(F.normalize(head(features).float(), dim=-1), F.normalize(assign.weight.float(), dim=-1))

    def _cross_entropy(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean cross entropy of (N, D) student features with the teacher's assignments, in units of log(prototypes)."""
        target = sinkhorn(self._logits(teacher, self.teacher_head, self.teacher_assign), self.teacher_temperature)
        guess = F.log_softmax(self._logits(student, self.head, self.assign) / self.student_temperature, -1)
        return -(target * guess).sum(-1).mean() / torch.log(torch.tensor(float(self.prototypes)))

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = batch.frames.unbind(1)
        mask = random_mask(len(first), self.backbone.side**2, self.mask_share, generator).to(first.device)
        with torch.no_grad():
            whole = self.backbone(torch.cat([first, second])).float()
        patches = self.masked_student(photometric(first, generator), mask)
        crops = self.student(photometric(random_crop(second, generator), generator))
        terms = {
            "patches": self._cross_entropy(patches[mask], whole[: len(first)][mask]),
            "crops": self.crop_weight * self._cross_entropy(crops.mean(1), whole[len(first) :].mean(1)),
            "guard": self.guard_weight * variance_covariance(patches[~mask], generator),
        }
        return torch.stack(list(terms.values())).sum(), terms
