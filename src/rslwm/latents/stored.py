"""The features or latents of all frames: stored, by as many processes as asked for, or encoded whenever they are
read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from rslwm.compute import ComputeConfig, autocast, device
from rslwm.data.config import DataConfig
from rslwm.data.frames import DecodedFrames
from rslwm.data.sources.opening import open_source
from rslwm.data.store import INDEX, PIECE, SHARD, Places, Readable, Tensors, TensorStore, finished_shards
from rslwm.latents.space import LatentSpace
from rslwm.processes import number, spread
from rslwm.serialisation import to_dict
from rslwm.types import DataError, LatentSpec, Progress, silent

Encode = Callable[[Tensor], Tensor]

BATCH = 128
"""Frames encoded at a time, of one episode."""

SPACE, STORE = "space", "store"
"""Subfolders of what :func:`leave_latents` leaves."""


def too_wide(spec: LatentSpec, stream_above_kb: float) -> bool:
    """Whether latents are not to be stored; see :attr:`rslwm.study.config.StudyConfig.stream_above_kb`."""
    return 0 < stream_above_kb * 1024 < spec.bytes_per_frame


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
    """A store of what ``latents`` makes for those of the episodes that aren't in it yet, in their order. Interrupted,
    it loses what was made in a few seconds; the same call goes on from there."""
    written = finished_shards(root, meta) | finished_shards(root, meta, PIECE)
    made = latents([key for key in keys if key not in written])
    return TensorStore.write(root, [(key, partial(next, made)) for key in keys], meta, shard_bytes, progress)


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


def leave_latents(
    folder: Path,
    space: LatentSpace,
    frames: TensorStore,
    compute: ComputeConfig,
    progress: Progress = silent,
    *,
    streamed: bool = False,
    features: Readable | None = None,
) -> None:
    """Write what :func:`open_latents` opens: the space and, unless ``streamed``, the latents of every frame.

    Interrupted, it goes on where it was. A native space whose normaliser isn't fitted yet leaves its features.

    Args:
        space: on the device that it encodes on.
        features: of the native space, which an adapted one compresses instead of encoding frames.

    Raises :class:`DataError` if the latents are to be stored, and don't fit on the disk.
    """
    space.save(folder / SPACE)
    root, spec = folder / STORE, space.spec
    count = sum(frames.shape(key)[0] for key in frames.keys)
    needed = count * spec.bytes_per_frame
    what = f"{spec.name}: {count:,} frames of {spec.bytes_per_frame:,} bytes are {decimal(needed)}"
    if streamed:
        print(f"{what}: not stored, but encoded whenever they are read (--stream-above-kb)")
        return
    print(what)
    require_room(root, needed, "have them encoded whenever they are read (--stream-above-kb)")
    meta = latents_meta(space, frames)
    encode, source = (space.encode, frames) if features is None else (space.encode_features, features)
    encode_episodes(encode, source, root, meta, compute, progress)


def latents_meta(space: LatentSpace, frames: Tensors) -> dict[str, Any]:
    """What identifies the latents of these frames in that space."""
    return {"latents of": frames.meta, **to_dict(space.spec)}


def open_latents(folder: Path, frames: TensorStore, compute: ComputeConfig) -> Readable:
    """The latents of these frames that :func:`leave_latents` left in a folder."""
    if (folder / STORE).is_dir():
        return TensorStore(folder / STORE)
    space = LatentSpace.load(folder / SPACE).to(device(compute))
    return StreamedTensors(space.encode, frames, (*space.spec.grid, space.spec.channels), compute)


class StreamedTensors:
    """What a store of latents would hold, in its precision; equal up to what the frames of a batch do to each other's
    rounding. ``encode`` takes (1, T, ...) as the store holds frames to (1, T, h, w, C), ``latent`` is (h, w, C)."""

    def __init__(self, encode: Encode, frames: TensorStore, latent: tuple[int, ...], compute: ComputeConfig) -> None:
        self.encode, self.frames, self.latent, self.compute = encode, frames, latent, compute
        self.keys, self.meta = frames.keys, frames.meta

    def __str__(self) -> str:
        return f"latents of {self.frames}"

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an episode's latents, (T, h, w, C), without making them."""
        return self.frames.shape(key)[0], *self.latent

    def __getitem__(self, key: str) -> Tensor:
        return self._encode(self.frames[key])

    def read(self, places: Places) -> Tensor:
        """Latents of these frames, as many of each episode: (N, T, h, w, C)."""
        frames = self.frames.read(places)
        return self._encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _encode(self, frames: Tensor) -> Tensor:
        with _disable_current_modes():  # who counts the FLOPs of a training reads from a store or from here alike
            return encode_episode(self.encode, frames, self.compute)


@dataclass(frozen=True)
class Encoding:
    """What any process needs to know to encode any episode of a data set, straight from its videos."""

    space: Path
    """Folder that it was saved in."""
    dataset: Path
    cameras: str
    """One, or several, comma separated, for a space of several views; empty takes the data set's first."""
    data: DataConfig
    """Of its features and actions."""
    compute: ComputeConfig

    def write(self, root: Path, processes: int = 1, progress: Progress = silent) -> TensorStore:
        """Write the normalised latents (T, h, w, C) of every episode, those that are missing of the store in ``root``.

        Its bytes are those of :func:`leave_latents`, and don't depend on the number of processes. Whether it fits on
        the disk is the caller's to ask (:func:`require_room`). Raises :class:`DataError` if the store is of others.
        """
        space, frames = _open(self)

        def latents(keys: list[str]) -> Iterator[Tensor]:
            # As integers, for NumPy has no bfloat16; tensors would need shared memory, which containers are short of.
            return (torch.from_numpy(x).view(torch.bfloat16) for x in spread(partial(_encode, self), keys, processes))

        return write_latents(latents, frames.keys, root, latents_meta(space, frames), progress)


@lru_cache(maxsize=1)
def _open(job: Encoding) -> tuple[LatentSpace, Tensors]:
    """The space, on this process's device, and the frames."""
    torch.set_num_threads(job.compute.threads)  # as many in every process: the number changes last digits
    space = LatentSpace.load(job.space)
    frames = DecodedFrames(open_source(job.data).reopen(job.dataset), job.cameras, space.config.image_size)
    return space.to(device(_own_device(job.compute))), frames


def _own_device(compute: ComputeConfig) -> ComputeConfig:
    """On a machine of several GPUs, they are taken in turns."""
    gpus = torch.cuda.device_count()
    return replace(compute, device=f"cuda:{number() % gpus}") if compute.device == "auto" and gpus > 1 else compute


def _encode(job: Encoding, key: str) -> np.ndarray:
    space, frames = _open(job)
    return encode_episode(space.encode, frames[key], _own_device(job.compute)).view(torch.int16).numpy()
