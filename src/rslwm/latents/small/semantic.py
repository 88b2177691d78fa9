"""The small semantic encoders: what they share (a moving-average teacher, masks, augmentation, a guard against
collapse), and the objective of each."""

from __future__ import annotations

import copy
import math
import zlib
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch
from rslwm.latents.small.backbone import Block, PatchTransformer, SmallEncoder, follow


class SmallSemantic(SmallEncoder):
    """A student backbone and its teacher; the teacher's tokens are the latent."""

    family = "semantic"
    latent = "tokens after the last norm"
    scaffold: ClassVar[tuple[str, ...]] = ("student", "mask_token")
    momentum = (0.99, 0.999)
    mask_share: ClassVar[float] = 0.5
    guard_weight = 0.2

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.student = PatchTransformer(config, image_size)
        self.backbone = copy.deepcopy(self.student).requires_grad_(False)
        self.mask_token = nn.Parameter(torch.randn(config.width) * 0.02)
        self.spec = self.describe(config.width, self.backbone)

    @torch.no_grad()
    def update(self, fraction: float) -> None:
        start, end = self.momentum
        follow(self.backbone, self.student, end - (end - start) * 0.5 * (1 + math.cos(math.pi * fraction)))

    def draw_mask(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Which tokens of (B, H, W, 3) the student doesn't see, (B, h*w) bool."""
        return random_mask(len(frames), self.backbone.side**2, self.mask_share, generator).to(frames.device)


def photometric(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Mild contrast, brightness and colour changes, one draw an image; (B, H, W, 3) in [0, 1], not clipped."""
    B = frames.shape[0]
    u = torch.rand(B, 1, 1, 5, generator=generator).to(frames) - 0.5
    contrast, brightness, colour = u[..., :1], u[..., 1:2], u[..., 2:]
    return (frames - 0.5) * (1 + 0.2 * contrast) + 0.5 + 0.1 * brightness + 0.05 * colour


def random_mask(B: int, N: int, share: float, generator: torch.Generator) -> Tensor:
    """(B, N) bool with exactly round(share * N) tokens masked in each row."""
    order = torch.rand(B, N, generator=generator).argsort(1)
    return order < round(share * N)


def standardise(target: Tensor) -> Tensor:
    """Zero mean and unit variance for each (position, channel) over the batch, so that what is the same in every frame
    is no part of the target; (B, N, D)."""
    scale = target.std(0, keepdim=True)
    return (target - target.mean(0, keepdim=True)) / (scale + 0.05 * target.std() + 1e-4)


def variance_covariance(tokens: Tensor, generator: torch.Generator, sample: int = 1024) -> Tensor:
    """VICReg's guard (arXiv 2105.04906): the standard deviation of every channel of (N, D) at least 1, channels
    uncorrelated. Latent prediction without it collapses at this size."""
    pick = torch.randperm(len(tokens), generator=generator)[:sample].to(tokens.device)
    x = tokens[pick].float()
    x = x - x.mean(0)
    deviation = (x.var(0) + 1e-4).sqrt()
    covariance = x.T @ x / (len(x) - 1)
    off_diagonal = covariance - torch.diag(covariance.diag())
    return F.relu(1 - deviation).mean() + 0.04 * off_diagonal.square().sum() / x.shape[1]


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
    """Self-distillation over crops and patches (DINO, iBOT; the idea behind DINOv2 and Web-DINO): half of the batch
    predicts the prototypes of masked patches, the other half, from a crop, those of the whole."""

    name = "small-dino"
    scaffold = (*SmallSemantic.scaffold, "head", "assign", "teacher_head", "teacher_assign")
    prototypes, crop_weight = 256, 0.2
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
        mask = self.draw_mask(first, generator)
        with torch.no_grad():
            whole = self.backbone(torch.cat([first, second])).float()
        patches = self.student(photometric(first, generator), mask, self.mask_token)
        crops = self.student(photometric(random_crop(second, generator), generator))
        terms = {
            "patches": self._cross_entropy(patches[mask], whole[: len(first)][mask]),
            "crops": self.crop_weight * self._cross_entropy(crops.mean(1), whole[len(first) :].mean(1)),
            "guard": self.guard_weight * variance_covariance(patches[~mask], generator),
        }
        return torch.stack(list(terms.values())).sum(), terms


class TextTower(nn.Module):
    """Instructions to vectors: hashed words, positions, one transformer block, mean."""

    buckets, max_words = 512, 16

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.words = nn.Embedding(self.buckets, width, padding_idx=0)
        self.position = nn.Parameter(torch.randn(self.max_words, width) * 0.02)
        self.block = Block(width, heads)

    def forward(self, texts: list[str]) -> Tensor:
        """B instructions -> (B, width)."""
        ids = torch.zeros(len(texts), self.max_words, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            words = text.lower().split()[: self.max_words]
            row[: len(words)] = torch.tensor([1 + zlib.crc32(w.encode()) % (self.buckets - 1) for w in words])
        ids = ids.to(self.position.device)
        used = (ids > 0)[..., None].float()
        x = self.block((self.words(ids) + self.position) * used)
        return (x * used).sum(1) / used.sum(1).clamp_min(1)


class AttentionPool(nn.Module):
    """Four learned queries over the tokens; (B, N, D) -> (B, D)."""

    def __init__(self, width: int, queries: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.1)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(queries * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        key, value = self.key_value(tokens).chunk(2, -1)
        weights = (self.queries.to(key.dtype) @ key.transpose(1, 2) * key.shape[-1] ** -0.5).softmax(-1)
        return self.out((weights.to(value.dtype) @ value).flatten(1))


@ENCODERS.register("small-siglip")
class SmallSigLIP(SmallSemantic):
    """Which instruction belongs to which frame, as independent yes-no questions; equal instructions all count as yes.

    Contrast alone has effective rank 3 at this size; SigLIP 2's masked self-distillation and the guard keep it up.
    """

    name = "small-siglip"
    scaffold = (*SmallSemantic.scaffold, "pool", "text", "predictor", "log_scale", "bias")

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        D = config.width
        self.pool, self.text = AttentionPool(D), TextTower(D, config.heads)
        self.predictor = nn.Sequential(Block(D, config.heads), Block(D, config.heads), nn.LayerNorm(D), nn.Linear(D, D))
        self.log_scale, self.bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-2.0))

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = batch.frames.unbind(1)
        mask = self.draw_mask(first, generator)
        with torch.no_grad():
            target = standardise(self.backbone(first).float())
        whole = self.student(photometric(second, generator))
        masked = self.student(photometric(first, generator), mask, self.mask_token)
        guess = self.predictor(masked).float()
        terms = {
            "contrast": self._contrast(whole, batch.instructions),
            "distillation": F.smooth_l1_loss(guess[mask], target[mask]),
            "guard": self.guard_weight * variance_covariance(whole.flatten(0, 1), generator),
        }
        return torch.stack(list(terms.values())).sum(), terms

    def _contrast(self, tokens: Tensor, instructions: list[str]) -> Tensor:
        image = F.normalize(self.pool(tokens).float(), dim=-1)
        text = F.normalize(self.text(instructions).float(), dim=-1)
        logits = image @ text.T * self.log_scale.exp() + self.bias
        same = torch.tensor([[a == b for b in instructions] for a in instructions], device=logits.device)
        positives = same.float().mean()
        weight = torch.where(same, 0.5 / positives, 0.5 / (1 - positives).clamp_min(1e-3))
        return F.binary_cross_entropy_with_logits(logits, same.float(), weight=weight)


@ENCODERS.register("small-vjepa")
class SmallVJEPA(SmallSemantic):
    """From an earlier frame and a heavily masked later one, predict the teacher's tokens of the later frame (V-JEPA).

    No actions: what moves must be told from the visible patches, so the latents learn what changes.
    """

    name = "small-vjepa"
    scaffold = (*SmallSemantic.scaffold, "join", "predictor")
    mask_share = 0.6

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        D = config.width
        self.join = nn.Linear(2 * D, D)
        self.predictor = nn.Sequential(Block(D, config.heads), Block(D, config.heads), nn.LayerNorm(D), nn.Linear(D, D))

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        earlier, later = batch.frames.unbind(1)
        mask = self.draw_mask(later, generator)
        with torch.no_grad():
            target = standardise(self.backbone(later).float())
        context = self.student(photometric(earlier, generator))
        visible = self.student(photometric(later, generator), mask, self.mask_token)
        guess = self.predictor(self.join(torch.cat([context, visible], -1))).float()
        terms = {
            "prediction": F.smooth_l1_loss(guess[mask], target[mask]),
            "guard": self.guard_weight * variance_covariance(context.flatten(0, 1), generator),
        }
        return torch.stack(list(terms.values())).sum(), terms
