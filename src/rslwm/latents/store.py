"""Encode once, train many: the latents of every episode in a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal
from torch import Tensor

from rslwm.compute import ComputeConfig, autocast, device
from rslwm.data.store import INDEX, SHARD, Item, Tensors, TensorStore, finished_shards
from rslwm.types import DataError, Progress, silent

Encode = Callable[[Tensor], Tensor]

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
    progress: Progress = silent,
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
    progress: Progress = silent,
    shard_bytes: int = SHARD,
) -> TensorStore:
    """A store of what ``latents`` makes for those of the episodes that aren't in it yet, in their order.

    Interrupted, it loses the shard that was being filled; the same call goes on from there.
    """
    finished = finished_shards(root, meta)
    made = latents([key for key in keys if key not in finished])

    def items() -> Iterator[Item]:
        for done, key in enumerate(keys, 1):
            yield key, partial(next, made)
            progress(done, len(keys), f"episode {key}")

    return TensorStore.write(root, items(), meta, shard_bytes)


def require_room(root: Path, needed: int, otherwise: str = "take a space of fewer channels (NAME+96)") -> None:
    """Raises :class:`DataError` if what is still to be written to a store of so many bytes doesn't fit on its disk."""
    if (root / INDEX).is_file():
        return
    needed -= sum(path.stat().st_size for path in root.glob("shard-*.safetensors"))
    if needed > (free := free_bytes(root)):
        raise DataError(
            f"{root}: the latents need {decimal(needed)}, but its disk has {decimal(free)} free. Free some, write to "
            f"another disk, or {otherwise}"
        )


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder is on, or will be."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(place).free
