"""The diffusion transformer computed the published way: every frame anew, modulations materialised for every token.

Same function and same parameter names as :class:`rslwm.model.dit.DiT`, so that its weights load as they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from rslwm.attention import attend, causal_bias
from rslwm.model.dit import DiTConfig
from rslwm.model.layers import SwiGLU

TIME_CHANNELS = 256


def rotary(positions: Tensor, width: int) -> Tensor:
    """Unit complex numbers (N, width / 2) for positions (N, axes) that share the head width equally."""
    pairs = width // 2 // positions.shape[1]
    frequencies = 10_000 ** (-torch.arange(pairs, device=positions.device) / pairs)
    angles = (positions[..., None] * frequencies).flatten(1)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of (..., N, d) by a table (N, d / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


class Attention(nn.Module):
    """Multi-head attention over the middle axis of (batch, N, D)."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv_proj(x), "b N (three heads d) -> three b heads N d", three=3, heads=self.heads)
        q, k = (rotate(F.rms_norm(y, y.shape[-1:]), table) for y in (q, k))
        bias = causal_bias(x.shape[1], 1, q) if self.causal else None
        attended = attend(q * q.shape[-1] ** -0.5, k, v, bias)  # ours: which kernel is faster is not what is compared
        return self.out_proj(rearrange(attended, "b heads N d -> b N (heads d)"))


class AdaLN(nn.Sequential):
    """What a condition does to every token."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, parts * width))
        self.parts = parts

    def each(self, condition: Tensor, tokens: int) -> tuple[Tensor, ...]:
        """Condition (B, T, D) -> ``parts`` modulations, each (B, T, N, D)."""
        return repeat(self(condition), "B T D -> B T N D", N=tokens).chunk(self.parts, -1)


class Block(nn.Module):
    """Attention inside a frame, or along the time of a position, and a feed-forward."""

    def __init__(self, width: int, heads: int, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.adaLN_modulation = AdaLN(width, 6)
        self.attn = Attention(width, heads, causal=temporal)
        self.ffwd = SwiGLU(width)

    def forward(self, x: Tensor, condition: Tensor, table: Tensor) -> Tensor:
        """Tokens (B, T, N, D) and the frames' condition (B, T, D) -> tokens."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.adaLN_modulation.each(condition, x.shape[2])
        x = x + gate_a * self._attend(rms_norm(x) * (1 + scale_a) + shift_a, table)
        return x + gate_f * self.ffwd(rms_norm(x) * (1 + scale_f) + shift_f)

    def _attend(self, x: Tensor, table: Tensor) -> Tensor:
        if self.temporal:
            # Contiguous: a product of a strided tensor with weights without bias copies these for every position.
            attended = self.attn(rearrange(x, "B T N D -> (B N) T D").contiguous(), table)
            return rearrange(attended, "(B N) T D -> B T N D", N=x.shape[2])
        return self.attn(x.flatten(0, 1), table).unflatten(0, x.shape[:2])


class Layer(nn.Module):
    """A spatial block, then a temporal block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.s_block = Block(width, heads, temporal=False)
        self.t_block = Block(width, heads, temporal=True)

    def forward(self, x: Tensor, condition: Tensor, space: Tensor, time: Tensor) -> Tensor:
        return self.t_block(self.s_block(x, condition, space), condition, time)


class FinalLayer(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.adaLN_modulation = AdaLN(width, 2)
        self.linear = nn.Linear(width, out)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation.each(condition, x.shape[2])
        return self.linear(rms_norm(x) * (1 + scale) + shift)


class StraightforwardDiT(nn.Module):
    """Takes and gives what :class:`rslwm.model.dit.DiT` does; load that one's ``state_dict``.

    Raises:
        ValueError: joint temporal attention or several views, which nothing here is compared on.
    """

    def __init__(self, config: DiTConfig, channels: int, action_dims: int) -> None:
        super().__init__()
        if config.temporal != "factorised" or config.views != 1:
            raise ValueError(
                f"the straightforward transformer is factorised and has one view, not {config.temporal}, {config.views}"
            )
        self.config = config
        width, out = config.width, config.patch**2 * channels
        self.x_proj = nn.Conv2d(channels, width, config.patch, config.patch)
        self.timestep_mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.action_embedder = nn.Linear(config.action_inputs or action_dims, width)
        self.blocks = nn.ModuleList(Layer(width, config.heads) for _ in range(config.depth))
        if config.wide_head:
            self.s_projector = nn.Linear(width, config.wide_head)
            self.head_final_layer = FinalLayer(config.wide_head, out)
        else:
            self.final_layer = FinalLayer(width, out)

    def forward(self, x: Tensor, levels: Tensor, actions: Tensor) -> Tensor:
        """Latents (B, T, h, w, C), noise levels (B, T) in [0, 1], actions (B, T, A) -> output (B, T, h, w, C)."""
        batch, frames = x.shape[:2]
        embedded = self.x_proj(rearrange(x, "B T h w C -> (B T) C h w"))
        h, w = embedded.shape[-2:]
        tokens = rearrange(embedded, "(B T) D h w -> B T (h w) D", B=batch)
        space, time = self._tables(h, w, frames, x.device)
        time_condition = self.timestep_mlp(self._embed(levels))
        actions = F.pad(actions, (0, self.action_embedder.in_features - actions.shape[-1]))
        condition = time_condition + self.action_embedder(actions)
        for layer in self.blocks:
            tokens = layer(tokens, condition, space, time)
        if self.config.wide_head:
            tokens = self.s_projector(F.silu(tokens + repeat(time_condition, "B T D -> B T N D", N=h * w)))
            out = self.head_final_layer(tokens, tokens.mean(2))
        else:
            out = self.final_layer(tokens, condition)
        p = self.config.patch
        return rearrange(out, "B T (h w) (p1 p2 C) -> B T (h p1) (w p2) C", h=h, w=w, p1=p, p2=p)

    def _tables(self, h: int, w: int, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
        width = self.config.width // self.config.heads
        places = torch.cartesian_prod(torch.arange(h, device=device), torch.arange(w, device=device))
        return rotary(places, width), rotary(torch.arange(frames, device=device)[:, None], width)

    def _embed(self, levels: Tensor) -> Tensor:
        half = TIME_CHANNELS // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=levels.device) / half)
        angles = 1000 * levels[..., None].float() * frequencies
        return torch.cat([angles.cos(), angles.sin()], -1)
