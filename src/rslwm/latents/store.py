"""Encode once, train many: the latents of every episode in a store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rslwm.compute import autocast, device
from rslwm.config import ComputeConfig
from rslwm.data.store import TensorStore

Encode = Callable[[Tensor], Tensor]


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to float in [0, 1]."""
    return frames.float() / 255


@torch.no_grad()
def encode_episodes(
    encode: Encode,
    frames: TensorStore,
    root: Path,
    meta: dict[str, Any],
    compute: ComputeConfig,
    progress: Callable[[int, int, str], None] = lambda done, total, message: None,
    batch: int = 128,
    cast: Encode = to_float,
) -> TensorStore:
    """Write the latents of every episode of ``frames``, (T, h, w, C) bfloat16 each.

    Args:
        encode: (1, T, H, W, 3) float in [0, 1] -> (1, T, h, w, C).
        cast: from the store's dtype to what ``encode`` takes.
        meta: identifies encoder, preprocessing and data; a store with another one is refused, not overwritten.
        batch: frames encoded at a time.
    """
    where = device(compute)

    def latents(key: str) -> Tensor:
        with autocast(compute):
            chunks = [encode(cast(part[None].to(where))).cpu() for part in frames[key].split(batch)]
        return torch.cat(chunks, 1)[0]

    def items() -> Any:
        for number, key in enumerate(frames.keys):
            yield key, lambda key=key: latents(key)
            progress(number + 1, len(frames.keys), f"episode {key}")

    return TensorStore.write(root, items(), meta)
