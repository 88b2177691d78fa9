"""The action-conditioned diffusion transformer (arXiv 2605.06388 section 4): config -> blocks -> model."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from rslwm.attention import KeyValues
from rslwm.model.cache import EMPTY, Cache, first_frames
from rslwm.model.layers import FinalLayer, Layer, rotary_tables, sinusoidal_embedding
from rslwm.serialisation import ConfigError


@dataclass(frozen=True)
class DiTConfig:
    """Size and form of the transformer that predicts latents from latents and actions (paper section 4)."""

    width: int = 96
    """Channels of a token inside the transformer."""
    depth: int = 3
    """Layers, each a block over space and then one over time."""
    heads: int = 3
    """Attention heads of every block. They divide the width into parts of a multiple of 4 channels."""
    patch: int = 2
    """Side of the square of latent positions that makes one token; 1 keeps every position a token of its own."""
    wide_head: int = 0
    """Width of the additional readout that latents with hundreds of channels need; the paper uses 2048. 0 reads the
    prediction off the tokens directly."""
    max_frames: int = 4
    """Frames that attention over time sees, the new one included. In longer rollouts this window slides."""
    temporal: Literal["factorised", "joint"] = "factorised"
    """Whether a token looks back at its own position in earlier frames only, or at all tokens of all earlier frames."""
    views: int = 1
    """Camera views that lie side by side in a frame's width. With more than one, the position embedding knows which
    view a token belongs to."""
    view_order: Literal["side-by-side", "interleaved"] = "side-by-side"
    """How a token's place in the width is read as view and column. Views do lie side by side; the paper's code reads
    them as interleaved, so its weights need that reading."""
    action_inputs: int = 0
    """Inputs of the layer that embeds actions. 0 gives it as many as an action has dimensions. With more, the last one
    is 1 for the null action, which stands for an unknown action in dropout and guidance, and the others are 0."""


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
class Conditions:
    """What noise levels and actions do to the frames of one forward pass."""

    level: Tensor
    """(B, T, D), embedded noise levels"""
    both: Tensor
    """(B, T, D), with the embedded actions"""
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Modulations of each layer's spatial and temporal block, (B, T, 1, 6 D)"""

    def __getitem__(self, frames: slice) -> Conditions:
        layers = tuple((space[:, frames], time[:, frames]) for space, time in self.layers)
        return Conditions(self.level[:, frames], self.both[:, frames], layers)


class DiT(nn.Module):
    """Velocity of noisy latents, given every frame's noise level and the action that conditions it.

    Several views of a frame lie side by side in its width. No parameter depends on their number, nor on ``max_frames``
    and ``temporal``: the weights of a single-view model start a multi-view one.
    ``generator`` draws the initial weights; the global stream does without it.
    """

    def __init__(
        self, config: DiTConfig, channels: int, action_dims: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if (of_a_head := config.width / config.heads) % 4:
            sizes = f"dit.width {config.width} / dit.heads {config.heads} gives heads of {of_a_head:g} channels"
            raise ConfigError(f"{sizes}; rotary embeddings of rows and columns need a multiple of 4")
        if config.action_inputs and config.action_inputs <= action_dims:
            inputs = f"dit.action_inputs is {config.action_inputs} for actions of {action_dims} dimensions"
            raise ConfigError(f"{inputs}; set 0 (no null action) or at least {action_dims + 1}")
        if config.max_frames < 2:
            raise ConfigError(f"dit.max_frames is {config.max_frames}; a new frame needs at least one of context: 2")
        self.config = config
        self.checkpoint_activations = False
        self._tables = rotary_tables
        width, patch = config.width, config.patch
        self.x_proj = nn.Conv2d(channels, width, patch, patch)
        self.timestep_mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.action_embedder = nn.Linear(config.action_inputs or action_dims, width)
        self.blocks = nn.ModuleList(Layer(width, config.heads, config.temporal == "joint") for _ in range(config.depth))
        if config.wide_head:
            self.s_projector = nn.Linear(width, config.wide_head)
            self.head_final_layer = FinalLayer(config.wide_head, patch * patch * channels)
        else:
            self.final_layer = FinalLayer(width, patch * patch * channels)
        self.initialise(generator)

    def forward(self, x: Tensor, levels: Tensor, actions: Tensor) -> Tensor:
        """Latents (B, T, h, w, C), noise levels (B, T) in [0, 1], actions (B, T, A) -> velocity (B, T, h, w, C)."""
        return self.extend(x, self.conditions(levels, actions), keep=0)[0]

    def conditions(self, levels: Tensor, actions: Tensor) -> Conditions:
        """Of frames with noise levels (B, T) and actions (B, T, A); they don't depend on latents or on other frames."""
        level = self.timestep_mlp(sinusoidal_embedding(levels, TIME_CHANNELS).to(self.dtype))
        both = level + self.action_embedder(actions.to(self.dtype))
        return Conditions(level, both, tuple(layer.modulations(both) for layer in self._layers))

    def extend(
        self, x: Tensor, conditions: Conditions, past: Cache = EMPTY, keep: int | None = None
    ) -> tuple[Tensor, Cache]:
        """Velocity (B, T, h, w, C) of T frames that follow the past's, and the first ``keep`` frames' keys and values,
        all frames' by default. With a past of B contexts x may hold (B K) rows: K candidates share a context. Raises
        ValueError for more frames than ``max_frames``, or a grid that the patch doesn't divide."""
        grid, frames = self._grid(x), x.shape[1]
        if past.frames + frames > self.config.max_frames:
            raise ValueError(f"{past.frames} + {frames} frames exceed dit.max_frames = {self.config.max_frames}")
        space, time = self._tables(self.config, grid, past.end, frames, x.device)
        tokens = self._patchify(x.to(self.dtype))
        keep = frames if keep is None else keep
        new: list[KeyValues] = []
        recompute = self.checkpoint_activations and torch.is_grad_enabled()
        for i, layer in enumerate(self._layers):
            run = partial(checkpoint, layer, use_reentrant=False) if recompute else layer
            tokens, key_values = run(tokens, conditions.layers[i], space, time, past.layer(i))
            new.append(first_frames(key_values, keep, frames))
        velocity = self._unpatchify(self._head(tokens, conditions), grid)
        return velocity, Cache((tuple(new),), (keep,), past.end)

    @property
    def dtype(self) -> torch.dtype:
        return self.x_proj.weight.dtype

    def compile(self) -> None:
        """Compile in place; the names of the parameters stay."""
        self._tables = torch.compiler.disable(rotary_tables)  # importing this takes a second, so only here
        # Without gradients inductor's pattern for attention matches ours, which has an axis more, and fails.
        super().compile(options={"pattern_matcher": False})

    def own_precision(self) -> AbstractContextManager[None]:
        """No autocast if the weights have been converted already: it would only cost time."""
        device = self.x_proj.weight.device.type
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(device, enabled=False)

    @property
    def _layers(self) -> list[Layer]:
        return cast(list[Layer], list(self.blocks))

    def _head(self, tokens: Tensor, conditions: Conditions) -> Tensor:
        if not self.config.wide_head:
            return self.final_layer(tokens, conditions.both)
        wide = self.s_projector(F.silu(tokens + conditions.level[:, :, None]))
        return self.head_final_layer(wide, wide.mean(2))

    def _grid(self, x: Tensor) -> tuple[int, int]:
        (h, w), p, views = x.shape[2:4], self.config.patch, self.config.views
        if h % p or w % (p * views):
            patches = f"{views} view(s) (dit.views) of patches of {p} x {p} (dit.patch)"
            raise ValueError(f"a latent grid of {h} x {w} can't be cut into {patches}")
        return h // p, w // p

    def _patchify(self, x: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, N, D): the strided convolution as one matrix product."""
        p = self.config.patch
        patches = rearrange(x, "B T (h p1) (w p2) C -> B T (h w) (C p1 p2)", p1=p, p2=p)
        return F.linear(patches, self.x_proj.weight.flatten(1), self.x_proj.bias)

    def _unpatchify(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        p, (h, w) = self.config.patch, grid
        return rearrange(tokens, "B T (h w) (p1 p2 C) -> B T (h p1) (w p2) C", h=h, w=w, p1=p, p2=p)

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


def forward_flops(dit: DiT, grid: tuple[int, int], frames: int = 1, past: int = 0) -> float:
    """Floating-point operations, two a multiply-add, of a forward pass of one row over ``frames`` new frames that see
    ``past`` cached ones. Matrix products only, as in Table 4 of the paper; counted on the meta device."""
    channels, actions = dit.x_proj.in_channels, dit.action_embedder.in_features
    with torch.device("meta"), torch.no_grad():
        twin = DiT(replace(dit.config, action_inputs=0), channels, actions)

        def extend(frames: int, past: Cache = EMPTY) -> Cache:
            x = torch.zeros(1, frames, *grid, channels)
            return twin.extend(x, twin.conditions(torch.zeros(1, frames), torch.zeros(1, frames, actions)), past)[1]

        seen = extend(past) if past else EMPTY
        with FlopCounterMode(display=False) as counter:
            extend(frames, seen)
    return float(counter.get_total_flops())
