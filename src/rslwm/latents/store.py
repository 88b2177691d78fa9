"""Encode once, train many: the latents of every episode in a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rslwm.compute import autocast, device
from rslwm.config import ComputeConfig
from rslwm.data.store import Item, TensorStore

Encode = Callable[[Tensor], Tensor]


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to float in [0, 1]."""
    return frames.float() / 255


@torch.no_grad()
def encode_episodes(
    encode: Encode,
    source: TensorStore,
    root: Path,
    meta: dict[str, Any],
    compute: ComputeConfig,
    progress: Callable[[int, int, str], None] = lambda done, total, message: None,
    batch: int = 128,
) -> TensorStore:
    """Write the latents of every episode of ``source`` (frames or features), (T, h, w, C) bfloat16 each.

    Args:
        encode: (1, T, ...) as the store holds them -> (1, T, h, w, C).
        meta: identifies encoder, preprocessing and data; a store with another one is refused, not overwritten.
        batch: frames encoded at a time.
    """
    where = device(compute)

    def latents(key: str) -> Tensor:
        with autocast(compute):
            chunks = [encode(part[None].to(where)).cpu() for part in source[key].split(batch)]
        return torch.cat(chunks, 1)[0]

    def items() -> Iterator[Item]:
        for done, key in enumerate(source.keys, 1):
            yield key, partial(latents, key)
            progress(done, len(source.keys), f"episode {key}")

    return TensorStore.write(root, items(), meta)
