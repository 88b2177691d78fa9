"""Layers of the diffusion transformer (arXiv 2605.06388 section 4).

Submodules carry the names of the published checkpoints, so that those load without a key map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.attention import KeyValues, attend, attend_with_past, causal_bias

if TYPE_CHECKING:
    from rslwm.model.dit import DiTConfig

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


# --------------------------------------------------------------------------------------------------- rotary embeddings


def rotary_table(positions: Tensor, shares: Sequence[int], width: int) -> Tensor:
    """Unit complex numbers (N, width / 2) for positions (N, axes); axis i turns ``shares[i]`` channels, in order.

    The frequency of pair i of an axis with n pairs is 10000^(-i/n). Channels beyond the shares stay as they are. In
    double precision: positions grow for as long as a rollout lasts.
    """
    angles = torch.zeros(len(positions), width // 2, dtype=torch.float64)
    start = 0
    for axis, share in zip(positions.unbind(1), shares, strict=True):
        pairs = share // 2
        frequencies = 10_000 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        angles[:, start : start + pairs] = axis[:, None] * frequencies
        start += pairs
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x (..., d) by the table (broadcastable to (..., d/2), complex)."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # fuses real products, but has no code for complex ones
        (a, b), (c, d) = pairs.unbind(-1), torch.view_as_real(table).unbind(-1)
        return torch.stack([a * c - b * d, a * d + b * c], -1).flatten(-2).to(x.dtype)
    return torch.view_as_real(torch.view_as_complex(pairs) * table).flatten(-2).to(x.dtype)


@lru_cache(maxsize=64)
def rotary_tables(
    config: DiTConfig, grid: tuple[int, int], start: int, frames: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of space and of time, for ``frames`` frames from position ``start`` on; (..., 2, 1, d/2) each.

    For the queries and for the keys of all heads; queries also get their 1 / sqrt(d).
    """
    scale = (config.width // config.heads) ** -0.5
    with torch.inference_mode(False):
        tables = spatial_table(config, grid), temporal_table(config, torch.arange(start, start + frames), grid)
        both = (torch.stack([scale * table, table], -2).unsqueeze(-2) for table in tables)
        space, time = (table.to(device, torch.complex64) for table in both)
        return space, time


def spatial_table(config: DiTConfig, grid: tuple[int, int]) -> Tensor:
    """Of the tokens of a frame, (N, d/2): row and column; with several views side by side also the view.

    Of d channels a view gets floor(d/3) made even, the row half of the rest made even, the column what remains.
    """
    rows, places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).unbind(1)
    width = config.width // config.heads
    if config.views == 1:
        return rotary_table(torch.stack([rows, places], 1), (width // 2, width // 2), width)
    if config.view_order == "side-by-side":
        view, column = places // (grid[1] // config.views), places % (grid[1] // config.views)
    else:
        column, view = places // config.views, places % config.views
    share = width // 3 // 2 * 2
    row_share = (width - share) // 2 // 2 * 2
    shares = (row_share, width - share - row_share, share)
    return rotary_table(torch.stack([rows, column, view], 1), shares, width)


def temporal_table(config: DiTConfig, frames: Tensor, grid: tuple[int, int]) -> Tensor:
    """Of frames (T,) at absolute positions: (T, 1, d/2), or (T, N, d/2) where tokens of all places meet.

    Joint attention turns frame, row and column on the first d - (d mod 6) channels, a third each.
    """
    width = config.width // config.heads
    if config.temporal == "factorised":
        return rotary_table(frames[:, None], (width,), width)[:, None]
    places = (torch.arange(n) for n in grid)
    positions = torch.cartesian_prod(frames, *places)
    return rotary_table(positions, (width // 6 * 2,) * 3, width).unflatten(0, (len(frames), -1))
