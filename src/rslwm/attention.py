"""Dot-product attention, and the one place that picks its kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

KeyValues = tuple[Tensor, Tensor]
"""Keys and values, each (B, N, heads, T, d)."""

FUSED_LENGTH = 64


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention over the last but one axis of (..., heads, N, d); the caller has scaled the queries.

    ``bias`` (N, N) is added to the scores.
    """
    # On the CPU the fused kernel's backward pass costs more than the rest of a network, and below some length its
    # forward pass loses, too. It is fused for four axes only.
    on_cpu = q.device.type == "cpu"
    if on_cpu and (q.shape[-2] < FUSED_LENGTH or torch.is_grad_enabled()):
        scores = q @ k.mT
        return (scores if bias is None else scores + bias).softmax(-1).to(v.dtype) @ v
    mask = None if bias is None else bias.to(q.dtype)
    flat_q, flat_k, flat_v = (x.flatten(0, -4) for x in (q, k, v))
    return F.scaled_dot_product_attention(flat_q, flat_k, flat_v, attn_mask=mask, scale=1.0).view_as(q)


def attend_with_past(q: Tensor, k: Tensor, v: Tensor, past: Sequence[KeyValues], bias: Tensor | None) -> Tensor:
    """Attention of new frames to themselves and to a past, parts of which several candidates share.

    q, k, v are ((B K), N, heads, T, d). A part of the past holds keys and values for B rows or for B K; of the former,
    the candidates become further queries of one product, so that the part is neither copied nor expanded.
    """
    scores = [_fold(q, keys) @ keys.mT for keys, _ in past]
    scores = [_unfold(s, q) for s in scores]
    single = q.shape[-2] == 1  # thousands of products of 1 x 1 cost more than the rest of the attention
    new = (q * k).sum(-1, keepdim=True) if single else q @ k.mT
    lengths = [s.shape[-1] for s in (*scores, new)]
    weights = torch.cat([*scores, new if bias is None else new + bias], -1).softmax(-1).to(v.dtype)
    *old, own = weights.split(lengths, -1)
    out = own * v if single else own @ v
    for weight, (_, values) in zip(old, past, strict=True):
        out = out + _unfold(_fold(weight, values) @ values, q)
    return out


def _fold(x: Tensor, shared: Tensor) -> Tensor:
    if len(x) == len(shared):
        return x
    return rearrange(x, "(B K) N heads T d -> B N heads (K T) d", B=len(shared))


def _unfold(x: Tensor, like: Tensor) -> Tensor:
    return x if len(x) == len(like) else rearrange(x, "B N heads (K T) d -> (B K) N heads T d", T=like.shape[-2])


def causal_bias(frames: int, tokens: int, like: Tensor) -> Tensor | None:
    """What to add to scores so that no frame looks ahead: (frames tokens, frames tokens), minus infinity for later
    frames. None for a single frame."""
    if frames == 1:
        return None
    later = like.new_full((frames, frames), -math.inf).triu(1)
    return later if tokens == 1 else later.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)
