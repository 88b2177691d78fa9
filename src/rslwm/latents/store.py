"""Encode once, train many: the latents of every episode in a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device
from rslwm.data.store import SHARD, Item, Tensors, TensorStore, finished_shards

Encode = Callable[[Tensor], Tensor]
Progress = Callable[[int, int, str], None]

BATCH = 128
"""Frames encoded at a time, of one episode."""


def to_float(frames: Tensor) -> Tensor:
    """uint8 frames to float in [0, 1]."""
    return frames.float().div_(255)


@torch.no_grad()
def encode_episode(encode: Encode, stored: Tensor, compute: ComputeConfig, batch: int = BATCH) -> Tensor:
    """Latents (T, h, w, C) bfloat16 of one episode, frames or features (T, ...); see :func:`encode_episodes`."""
    where = device(compute)
    with autocast(compute):
        return torch.cat([encode(part[None].to(where)).bfloat16().cpu() for part in stored.split(batch)], 1)[0]


def encode_episodes(
    encode: Encode,
    source: Tensors,
    root: Path,
    meta: dict[str, Any],
    compute: ComputeConfig,
    progress: Progress = lambda done, total, message: None,
    batch: int = BATCH,
) -> TensorStore:
    """Write the latents of every episode of ``source`` (frames or features), (T, h, w, C) bfloat16 each.

    Args:
        encode: (1, T, ...) as the source holds them -> (1, T, h, w, C).
        meta: identifies encoder, preprocessing and data; a store with another one is refused, not overwritten.
        batch: frames encoded at a time.
    """

    def latents(keys: list[str]) -> Iterator[Tensor]:
        return (encode_episode(encode, source[key], compute, batch) for key in keys)

    return write_latents(latents, source.keys, root, meta, progress)


def write_latents(
    latents: Callable[[list[str]], Iterator[Tensor]],
    keys: list[str],
    root: Path,
    meta: dict[str, Any],
    progress: Progress = lambda done, total, message: None,
    shard_bytes: int = SHARD,
) -> TensorStore:
    """A store of what ``latents`` makes for those of the episodes that aren't in it yet, in their order.

    Interrupted, it loses the shard that was being filled; the same call goes on from there.
    """
    finished, _ = finished_shards(root, meta)
    made = latents([key for key in keys if key not in finished])

    def items() -> Iterator[Item]:
        for done, key in enumerate(keys, 1):
            yield key, partial(next, made)
            progress(done, len(keys), f"episode {key}")

    return TensorStore.write(root, items(), meta, shard_bytes)
