"""The action-conditioned diffusion transformer (arXiv 2605.06388 section 4): config -> blocks -> model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.config import DiTConfig
from rslwm.model.layers import (
    Block,
    FinalLayer,
    KeyValues,
    SpatialAttention,
    TemporalAttention,
    rotary_table,
    sinusoidal_embedding,
)
from rslwm.serialisation import ConfigError

TIME_CHANNELS = 256

_PUBLISHED = DiTConfig(patch=1, max_frames=10)
SIZES: dict[str, DiTConfig] = {
    "S": replace(_PUBLISHED, width=384, depth=12, heads=6),
    "B": replace(_PUBLISHED, width=768, depth=12, heads=12),
    "L": replace(_PUBLISHED, width=1024, depth=24, heads=16),
    "XL": replace(_PUBLISHED, width=1152, depth=28, heads=16),
}
"""The paper's sizes (Table 5; XL from its code). Latents wider than an adapter's get ``wide_head=2048``."""


def size_of(config: DiTConfig) -> str:
    """The name in :data:`SIZES` of this width and depth, or ``width x depth``."""
    for name, size in SIZES.items():
        if (config.width, config.depth) == (size.width, size.depth):
            return f"DiT-{name}"
    return f"{config.width}x{config.depth}"


@dataclass(frozen=True)
class Cache:
    """Keys and values of the frames that new frames may look back to, one pair a temporal block."""

    layers: tuple[KeyValues, ...]

    @property
    def batch(self) -> int:
        return self.layers[0][0].shape[0]

    @property
    def frames(self) -> int:
        return self.layers[0][0].shape[-2]

    def append(self, new: Cache) -> Cache:
        """The cache with the new frames behind its own; a cache shared by candidates is copied for each only now."""
        candidates = new.batch // self.batch
        return Cache(
            tuple(
                (torch.cat([_each(k, candidates), new_k], -2), torch.cat([_each(v, candidates), new_v], -2))
                for (k, v), (new_k, new_v) in zip(self.layers, new.layers, strict=True)
            )
        )


def _each(x: Tensor, candidates: int) -> Tensor:
    return x if candidates == 1 else x.repeat_interleave(candidates, 0)


class Layer(nn.Module):
    """A spatial block, then a temporal block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.s_block = Block(width, SpatialAttention(width, heads))
        self.t_block = Block(width, TemporalAttention(width, heads))

    def forward(
        self, x: Tensor, condition: Tensor, space: Tensor, time: Tensor, past: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        x, _ = self.s_block(x, condition, space)
        return self.t_block(x, condition, time, past)


class DiT(nn.Module):
    """Velocity of noisy latents, given every frame's noise level and the action that conditions it.

    Args:
        config: architecture.
        channels: C, the latent's channels.
        action_dims: A.
        generator: draws the initial weights; the global stream does without it.
    """

    def __init__(
        self, config: DiTConfig, channels: int, action_dims: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if config.width % config.heads or (config.width // config.heads) % 4:
            raise ConfigError(
                f"dit.width {config.width} / dit.heads {config.heads} gives heads of {config.width / config.heads:g} "
                "channels; rotary embeddings of rows and columns need a multiple of 4"
            )
        if config.max_frames < 2:
            raise ConfigError(f"dit.max_frames is {config.max_frames}; a new frame needs at least one of context: 2")
        self.config = config
        width, patch = config.width, config.patch
        self.x_proj = nn.Conv2d(channels, width, patch, patch)
        self.timestep_mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.action_embedder = nn.Linear(action_dims, width)
        self.blocks = nn.ModuleList(Layer(width, config.heads) for _ in range(config.depth))
        if config.wide_head:
            self.s_projector = nn.Linear(width, config.wide_head)
            self.head_final_layer = FinalLayer(config.wide_head, patch * patch * channels)
        else:
            self.final_layer = FinalLayer(width, patch * patch * channels)
        self.initialise(generator)

    def forward(self, x: Tensor, levels: Tensor, actions: Tensor) -> Tensor:
        """Latents (B, T, h, w, C), noise levels (B, T) in [0, 1], actions (B, T, A) -> velocity (B, T, h, w, C)."""
        return self.extend(x, levels, actions)[0]

    def extend(self, x: Tensor, levels: Tensor, actions: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """Like :meth:`forward` for T frames that follow the past's; also returns these frames' keys and values.

        With a past of B contexts, x may hold B K rows, (B K) in that order: K candidates share a context.

        Raises:
            ValueError: more frames than ``max_frames``, or a grid that the patch doesn't divide.
        """
        grid = self._grid(x)
        start = past.frames if past else 0
        if start + x.shape[1] > self.config.max_frames:
            raise ValueError(f"{start} + {x.shape[1]} frames exceed dit.max_frames = {self.config.max_frames}")
        space, time = self._rotary_tables(grid, start, x.shape[1], x.device)
        time_condition = self.timestep_mlp(sinusoidal_embedding(levels, TIME_CHANNELS))
        condition = time_condition + self.action_embedder(actions)

        tokens = self._patchify(x)
        new: list[KeyValues] = []
        for i, layer in enumerate(self.blocks):
            tokens, key_values = layer(tokens, condition, space, time, past.layers[i] if past else None)
            new.append(key_values)
        return self._unpatchify(self._head(tokens, time_condition, condition), grid), Cache(tuple(new))

    def _head(self, tokens: Tensor, time_condition: Tensor, condition: Tensor) -> Tensor:
        if not self.config.wide_head:
            return self.final_layer(tokens, condition)
        wide = self.s_projector(F.silu(tokens + time_condition[:, :, None]))
        return self.head_final_layer(wide, wide.mean(2))

    def _grid(self, x: Tensor) -> tuple[int, int]:
        (h, w), p = x.shape[2:4], self.config.patch
        if h % p or w % p:
            raise ValueError(f"a latent grid of {h} x {w} can't be cut into patches of {p} x {p} (dit.patch)")
        return h // p, w // p

    def _patchify(self, x: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, N, D): the strided convolution as one matrix product."""
        p = self.config.patch
        patches = rearrange(x, "B T (h p1) (w p2) C -> B T (h w) (C p1 p2)", p1=p, p2=p)
        return F.linear(patches, self.x_proj.weight.flatten(1), self.x_proj.bias)

    def _unpatchify(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        p, (h, w) = self.config.patch, grid
        return rearrange(tokens, "B T (h w) (p1 p2 C) -> B T (h p1) (w p2) C", h=h, w=w, p1=p, p2=p)

    def _rotary_tables(
        self, grid: tuple[int, int], start: int, frames: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        width = self.config.width // self.config.heads
        rows, columns = (torch.arange(n, device=device) for n in grid)
        frame = torch.arange(start, start + frames, device=device)
        return rotary_table(torch.cartesian_prod(rows, columns), width), rotary_table(frame[:, None], width)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier weights and zero biases; every adaLN layer and the output start at zero, so that each block is the
        identity and the velocity is zero.

        The action's weights start larger: with Xavier's the embedding of a typical action is a tenth of the noise
        level's, and a model needs thousands of steps before it heeds the action at all.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or "adaLN" in name or "final_layer.linear" in name:
                parameter.zero_()
            elif name.startswith("action_embedder"):
                nn.init.normal_(parameter, std=0.5, generator=generator)
            else:
                nn.init.xavier_uniform_(parameter.flatten(1), generator=generator)
