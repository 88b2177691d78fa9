"""small-siglip: sigmoid contrast of frames and instructions, with masked self-distillation (SigLIP 2)."""

from __future__ import annotations

import zlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig, FrameBatch
from rslwm.latents.small.backbone import Block
from rslwm.latents.small.distillation import SmallSemantic, photometric, random_mask, standardise, variance_covariance


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
    mask_share, distillation_weight, guard_weight = 0.5, 1.0, 0.2

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        D = config.width
        self.pool, self.text = AttentionPool(D), TextTower(D, config.heads)
        self.predictor = nn.Sequential(Block(D, config.heads), Block(D, config.heads), nn.LayerNorm(D), nn.Linear(D, D))
        self.log_scale, self.bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-2.0))

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        first, second = batch.frames.unbind(1)
        mask = random_mask(len(first), self.backbone.side**2, self.mask_share, generator).to(first.device)
        with torch.no_grad():
            target = standardise(self.backbone(first).float())
        whole = self.student(photometric(second, generator))
        masked = self.masked_student(photometric(first, generator), mask)
        guess = self.predictor(masked).float()
        terms = {
            "contrast": self._contrast(whole, batch.instructions),
            "distillation": self.distillation_weight * F.smooth_l1_loss(guess[mask], target[mask]),
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
