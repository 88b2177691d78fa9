"""Layers of the diffusion transformer (arXiv 2605.06388 section 4).

Submodules carry the names of the published checkpoints, so that those load without a key map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import KeyValues, attend, attend_with_past, causal_bias
from rslwm.model.rotary import rotate

QK_EPS = torch.finfo(torch.float32).eps


class _RMSNorm(torch.autograd.Function):
    """y = x r with r = 1 / sqrt(mean(x^2) + eps), so dx = r (dy - y mean(y dy)).

    Half the passes over the tokens in training, there and back, that F.rms_norm takes on the CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        scale = _inverse_rms(x, eps)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        mean = (y * dy).mean(-1, keepdim=True, dtype=torch.float32).to(y.dtype)
        return torch.addcmul(dy, y, mean, value=-1) * scale, None


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return torch.rsqrt(norm.square() / x.shape[-1] + eps).to(x.dtype)


def rms_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Root-mean-square norm over the last axis, without weights; statistics in float32 whatever the input."""
    if torch.is_grad_enabled() and x.requires_grad:
        return cast(Tensor, _RMSNorm.apply(x, eps))
    return x * _inverse_rms(x, eps)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def sinusoidal_embedding(levels: Tensor, channels: int) -> Tensor:
    """Noise levels in [0, 1], any shape (...), -> (..., channels): cosines, then sines, of 1000 times the level."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=levels.device) / half)
    angles = 1000 * levels[..., None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


SPACE = "B T heads N d"
TIME = "B N heads T d"
JOINT = "B 1 heads (T N) d"


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised, rotated queries and keys.

    Of a token to all of its frame (``SPACE``), to its own position in earlier frames (``TIME``), or to all of its own
    and of earlier frames (``JOINT``). Over time it is causal; with a past, its frames come first.
    """

    def __init__(self, width: int, heads: int, sequence: str) -> None:
        super().__init__()
        self.heads, self.sequence = heads, sequence
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, table: Tensor, past: Sequence[KeyValues] = ()) -> tuple[Tensor, KeyValues]:
        """Tokens (B, T, N, D) -> tokens, and the new keys and values; the table also scales queries by 1 / sqrt(d)."""
        T, N = x.shape[1:3]
        qkv = self.qkv_proj(x).unflatten(-1, (3, self.heads, -1))
        q, k = rotate(rms_norm(qkv[..., :2, :, :], QK_EPS), table).unbind(-3)
        q, k, v = (rearrange(y, f"B T N heads d -> {self.sequence}") for y in (q, k, qkv[..., 2, :, :]))
        bias = None if self.sequence == SPACE else causal_bias(T, N if self.sequence == JOINT else 1, q)
        out = attend_with_past(q, k, v, past, bias) if past else attend(q, k, v, bias)
        return self.out_proj(rearrange(out, f"{self.sequence} -> B T N (heads d)", T=T, N=N)), (k, v)


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
    """Condition (B, T, D) -> modulations (B, T, 1, parts x out); zero at the start."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, out))

    def forward(self, condition: Tensor) -> Tensor:
        return super().forward(condition).unsqueeze(2)


class Block(nn.Module):
    """Attention, then feed-forward, both behind an adaLN norm and a gate."""

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.adaLN_modulation = AdaLN(width, 6 * width)
        self.attn = attention
        self.ffwd = SwiGLU(width)

    def forward(
        self, x: Tensor, modulation: Tensor, table: Tensor, past: Sequence[KeyValues] = ()
    ) -> tuple[Tensor, KeyValues]:
        """Tokens (B, T, N, D) and their frames' modulation (B, T, 1, 6 D) -> tokens, and the new keys and values."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.chunk(6, -1)
        attended, key_values = self.attn(modulate(rms_norm(x), shift_a, scale_a), table, past)
        x = torch.addcmul(x, gate_a, attended)
        x = torch.addcmul(x, gate_f, self.ffwd(modulate(rms_norm(x), shift_f, scale_f)))
        return x, key_values


class Layer(nn.Module):
    """A spatial block, then a temporal block; each has its modulation."""

    def __init__(self, width: int, heads: int, joint: bool) -> None:
        super().__init__()
        self.s_block = Block(width, Attention(width, heads, SPACE))
        self.t_block = Block(width, Attention(width, heads, JOINT if joint else TIME))

    def modulations(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.s_block.adaLN_modulation(condition), self.t_block.adaLN_modulation(condition)

    def forward(
        self, x: Tensor, modulations: tuple[Tensor, Tensor], space: Tensor, time: Tensor, past: Sequence[KeyValues]
    ) -> tuple[Tensor, KeyValues]:
        x, _ = self.s_block(x, modulations[0], space)
        return self.t_block(x, modulations[1], time, past)


class FinalLayer(nn.Module):
    """Norm, shift, scale and the projection to a patch; conditioned on (B, T, D)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.adaLN_modulation = AdaLN(width, 2 * width)
        self.linear = nn.Linear(width, out)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, -1)
        return self.linear(modulate(rms_norm(x), shift, scale))
