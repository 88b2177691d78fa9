"""Layers of the diffusion transformer (arXiv 2605.06388 section 4).

Submodules carry the names of the published checkpoints, so that those load without a key map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import attend, causal_bias

KeyValues = tuple[Tensor, Tensor]
"""Keys and values of one temporal block, each (B, N, heads, T, d); N = h w tokens a frame, d = D / heads."""

QK_EPS = torch.finfo(torch.float32).eps


def rms_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Root-mean-square norm over the last axis, without weights; statistics in float32 whatever the input."""
    # One reduction and one product: half the passes, there and back, of F.rms_norm on the CPU.
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x * torch.rsqrt(norm.square() / x.shape[-1] + eps).to(x.dtype)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def sinusoidal_embedding(levels: Tensor, channels: int = 256) -> Tensor:
    """Noise levels in [0, 1], any shape (...), -> (..., channels): cosines, then sines, of 1000 times the level."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=levels.device) / half)
    angles = 1000 * levels[..., None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def rotary_table(positions: Tensor, width: int) -> Tensor:
    """Unit complex numbers (N, width / 2) for positions (N, axes): the axes take equal shares of the head width.

    The frequency of pair i of an axis with n pairs is 10000^(-i/n).
    """
    pairs = width // 2 // positions.shape[1]
    frequencies = 10_000 ** (-torch.arange(pairs, device=positions.device) / pairs)
    angles = (positions[..., None].float() * frequencies).flatten(1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of x (..., d) by the table (broadcastable to (..., d/2), complex)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)


def attend_with_past(q: Tensor, k: Tensor, v: Tensor, past: KeyValues) -> Tensor:
    """Causal attention of new frames to themselves and to a past that K candidates share.

    q, k, v are ((B K), N, heads, T, d), the past's keys and values (B, N, heads, T', d). The candidates become further
    queries of one product, so that the past is neither copied nor expanded.
    """
    past_k, past_v = past
    contexts, old = past_k.shape[0], past_k.shape[-2]
    fold, unfold = "(B K) N heads T d -> B N heads (K T) d", "B N heads (K T) d -> (B K) N heads T d"
    old_scores = rearrange(rearrange(q, fold, B=contexts) @ past_k.mT, unfold, T=q.shape[-2])
    new_scores = q @ k.mT
    new_scores = new_scores + causal_bias(new_scores)
    weights = torch.cat([old_scores, new_scores], -1).softmax(-1).to(v.dtype)
    from_old = rearrange(weights[..., :old], fold, B=contexts) @ past_v
    return rearrange(from_old, unfold, T=q.shape[-2]) + weights[..., old:] @ v


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised, rotated queries and keys; subclasses say who attends to whom."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def project(self, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, N, D) -> queries scaled by 1 / sqrt(d), keys and values, each (B, T, N, heads, d)."""
        q, k, v = rearrange(self.qkv_proj(x), "B T N (three heads d) -> three B T N heads d", three=3, heads=self.heads)
        return rotate(rms_norm(q, QK_EPS), table * q.shape[-1] ** -0.5), rotate(rms_norm(k, QK_EPS), table), v


class SpatialAttention(Attention):
    """Full attention among the tokens of a frame."""

    def forward(self, x: Tensor, table: Tensor, past: KeyValues | None = None) -> tuple[Tensor, KeyValues]:
        q, k, v = (y.transpose(2, 3) for y in self.project(x, table[:, None]))
        return self.out_proj(rearrange(attend(q, k, v), "B T heads N d -> B T N (heads d)")), (k, v)


class TemporalAttention(Attention):
    """Causal attention of a token to its own position in earlier frames, and in the past's if there is one."""

    def forward(self, x: Tensor, table: Tensor, past: KeyValues | None = None) -> tuple[Tensor, KeyValues]:
        projected = self.project(x, table[:, None, None])
        q, k, v = (rearrange(y, "B T N heads d -> B N heads T d") for y in projected)
        out = attend(q, k, v, causal=True) if past is None else attend_with_past(q, k, v, past)
        return self.out_proj(rearrange(out, "B N heads T d -> B T N (heads d)")), (k, v)


class SwiGLU(nn.Module):
    """Gated feed-forward; ``w12`` holds the gate's half first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(2 / 3 * 4 * width)
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class AdaLN(nn.Sequential):
    """Condition (B, T, D) -> ``parts`` modulations, each (B, T, 1, D); zero at the start."""

    def __init__(self, width: int, parts: int, out: int | None = None) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * (out or width)))
        self.parts = parts

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return super().forward(condition).unsqueeze(2).chunk(self.parts, -1)


class Block(nn.Module):
    """Attention, then feed-forward, both behind an adaLN norm and a gate."""

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.adaLN_modulation = AdaLN(width, 6)
        self.attn = attention
        self.ffwd = SwiGLU(width)

    def forward(
        self, x: Tensor, condition: Tensor, table: Tensor, past: KeyValues | None = None
    ) -> tuple[Tensor, KeyValues]:
        """Tokens (B, T, N, D) and the frames' condition (B, T, D) -> tokens, and the new keys and values."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.adaLN_modulation(condition)
        attended, key_values = self.attn(modulate(rms_norm(x), shift_a, scale_a), table, past)
        x = torch.addcmul(x, gate_a, attended)
        x = torch.addcmul(x, gate_f, self.ffwd(modulate(rms_norm(x), shift_f, scale_f)))
        return x, key_values


class FinalLayer(nn.Module):
    """Norm, shift, scale and the projection to a patch."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.adaLN_modulation = AdaLN(width, 2)
        self.linear = nn.Linear(width, out)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)
        return self.linear(modulate(rms_norm(x), shift, scale))
