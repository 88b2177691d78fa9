"""What networks compute and hold, counted on the meta device: no weights, no data, no memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from rslwm.optim import OptimConfig

N = TypeVar("N", bound=nn.Module)

PRECISION = torch.bfloat16
"""Of matrix products, hence of most of what a backward pass needs."""


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
