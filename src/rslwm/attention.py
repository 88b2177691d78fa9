"""Dot-product attention, and the one place that picks its kernel."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

EXPLICIT_LENGTH = 256


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Softmax attention over the last but one axis of (..., N, d); the caller has scaled the queries."""
    # On the CPU the fused kernel's backward pass costs more than the rest of a network at short lengths.
    if q.device.type != "cpu" or q.shape[-2] > EXPLICIT_LENGTH:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1.0)
    scores = q @ k.mT
    if causal:
        scores = scores + causal_bias(scores)
    return scores.softmax(-1).to(v.dtype) @ v


def causal_bias(scores: Tensor) -> Tensor:
    """What to add to scores (..., N, N) so that nothing looks ahead: (N, N), minus infinity above the diagonal."""
    return scores.new_full(scores.shape[-2:], -math.inf).triu(1)
