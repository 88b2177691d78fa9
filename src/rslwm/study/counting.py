"""What networks compute and hold, counted on the meta device: no weights, no data, no memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from rslwm.evals.grid_probe import GridProbe, ProbeConfig
from rslwm.latents.adapters.base import Adapter, AdapterConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.perceptual import Kind, blank_perceptual
from rslwm.latents.pixels import open_decoder
from rslwm.latents.space import open_adapter
from rslwm.model.dit import DiT, DiTConfig, forward_flops
from rslwm.model.sampler import SamplingConfig
from rslwm.optim import OptimConfig
from rslwm.types import LatentSpec

N = TypeVar("N", bound=nn.Module)
Grid = tuple[int, int]

PRECISION = torch.bfloat16
"""Of matrix products, hence of most of what a backward pass needs."""
ACTION_DIMS = 7
"""Of an arm's end effector; they hardly count."""

GPUS = {
    "B200": 2250e12, "H200": 989e12, "H100": 989e12, "MI300X": 1307e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "4090": 165e12, "3090": 71e12,
}  # fmt: skip
"""FLOP/s of dense matrix products in bfloat16, summed in float32, from the makers' data sheets."""


@dataclass(frozen=True)
class Pass:
    """A forward pass of one sample."""

    flops: float
    """Two a multiply-add."""
    parameters: int
    kept: float
    """Bytes that autograd keeps of it for the backward pass, weights not counted."""


class FusedAttention(TorchFunctionMode):
    """Attention as GPUs do it: on the meta device it would keep its weights, and in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        q, k, v = args
        mask = kwargs.get("attn_mask")
        bias = None if mask is None else mask.expand(*q.shape[:-1], k.shape[-2])
        fused = torch.ops.aten._scaled_dot_product_efficient_attention
        return fused(q, k, v, bias, True, scale=kwargs.get("scale"))[0]


def count(build: Callable[[], N], run: Callable[[N], Tensor]) -> Pass:
    """Build a network on the meta device and count its forward pass."""
    with torch.device("meta"):
        network = build().to(PRECISION).requires_grad_()
        weights = {x.untyped_storage()._cdata for x in (*network.parameters(), *network.buffers())}
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage.nbytes()
            return x

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x)
        with FusedAttention(), hooks, FlopCounterMode(display=False) as counter:
            result = run(network)  # alive until the end, so that no storage takes the place of a freed one
    parameters = sum(p.numel() for p in network.parameters())
    found = Pass(float(counter.get_total_flops()), parameters, float(sum(kept.values())))
    del result
    return found


def blank(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=PRECISION)


# ---------------------------------------------------------------------------------------------------------- networks


# Counted once each: many spaces of a study have the same sizes.


@cache
def compressing(config: AdapterConfig, tokens: int, width: int, channels: int) -> Pass:
    """One view of a frame through the first half of an adapter from ``width`` to ``channels``."""
    return count(
        lambda: open_adapter(config, width, channels), lambda adapter: adapter.compress(blank(1, tokens, width))
    )


@cache
def restoring(config: AdapterConfig, tokens: int, width: int, channels: int) -> Pass:
    """One view of a frame through both halves of it."""

    def run(adapter: Adapter) -> Tensor:
        return adapter.reconstruct(adapter.compress(blank(1, tokens, width)).to(PRECISION))

    return count(lambda: open_adapter(config, width, channels), run)


@cache
def decoding(config: DecoderConfig, grid: Grid, channels: int, image_size: int) -> Pass:
    """One view of a frame through a pixel decoder of ours."""
    read = LatentSpec("latents", "floor", grid, channels)
    return count(lambda: open_decoder(config, read, image_size), lambda decoder: decoder(blank(1, 1, *grid, channels)))


@cache
def looking(kind: Kind, image_size: int) -> float:
    """FLOPs of one frame's activations in the network of a perceptual distance."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        distance = blank_perceptual(kind).eval()
        list(distance.maps(torch.empty(1, 3, image_size, image_size)))
    return float(counter.get_total_flops())


@cache
def denoising(config: DiTConfig, grid: Grid, channels: int, checkpointed: bool) -> Pass:
    """One training clip through the transformer; of a checkpointed one, every layer's input and one layer are kept."""
    T, actions = config.max_frames, config.action_inputs or ACTION_DIMS

    def of(depth: int) -> Pass:
        return count(
            lambda: DiT(replace(config, depth=depth), channels, ACTION_DIMS),
            lambda dit: dit(blank(1, T, *grid, channels), blank(1, T), blank(1, T, actions)),
        )

    one, two = of(1), of(2)
    inputs = config.depth * T * prod(grid) // config.patch**2 * config.width * PRECISION.itemsize
    return Pass(
        flops=_of_layers(config.depth, one.flops, two.flops),
        parameters=round(_of_layers(config.depth, one.parameters, two.parameters)),
        kept=one.kept + inputs if checkpointed else _of_layers(config.depth, one.kept, two.kept),
    )


@cache
def predicting(config: DiTConfig, grid: Grid, channels: int) -> float:
    """FLOPs of one velocity of a new frame, the window's others being cached."""

    def of(depth: int) -> float:
        with torch.device("meta"):
            dit = DiT(replace(config, depth=depth), channels, ACTION_DIMS)
        return forward_flops(dit, grid, frames=1, past=config.max_frames - 1)

    return _of_layers(config.depth, of(1), of(2))


def _of_layers(layers: int, one: float, two: float) -> float:
    """A quantity of a network of any depth, whose layers are alike, from those of one and of two layers."""
    return one + (layers - 1) * (two - one)


@cache
def probing(grid: Grid, channels: int, frames: int, out: int, config: ProbeConfig) -> Pass:
    """One sample through a probe."""
    return count(
        lambda: GridProbe(frames, channels, grid, out, config), lambda probe: probe(blank(1, frames, *grid, channels))
    )


def evaluations(sampling: SamplingConfig) -> int:
    """Velocities that a generated frame takes."""
    passes = 2 * sampling.steps - 1 if sampling.method == "heun" else sampling.steps
    return passes * (2 if sampling.guidance != 1 else 1)


def generating(sampling: SamplingConfig, context: int, future: int) -> int:
    """Frames that go through the transformer in a rollout: in velocities, and once where later ones look back at it."""
    return future * evaluations(sampling) + context + future - 1


# ---------------------------------------------------------------------------------------------------------- training


def training_flops(forward: float) -> float:
    """Of a forward pass and its backward pass, which costs two."""
    return 3 * forward


def training_memory(optim: OptimConfig, one: Pass) -> float:
    """Bytes: weights, gradients, two moments and the average in float32, the weights once more as autocast casts them,
    and what is kept of a batch."""
    weights = one.parameters * (4 * (4 + bool(optim.ema)) + PRECISION.itemsize)
    return weights + optim.batch_size * one.kept


def training_disk(optim: OptimConfig, parameters: int) -> float:
    """Bytes: training states (weights, two moments, average), and the weights once more."""
    return 4 * parameters * (optim.keep * (3 + bool(optim.ema)) + 1)
