"""The latents of a whole data set, made by as many processes as asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslwm.compute import ComputeConfig, device
from rslwm.data.config import DataConfig
from rslwm.data.frames import DecodedFrames
from rslwm.data.sources.opening import open_source
from rslwm.data.store import Tensors, TensorStore
from rslwm.latents.space import LatentSpace
from rslwm.latents.store import encode_episode, write_latents
from rslwm.latents.stored import latents_meta
from rslwm.processes import number, spread
from rslwm.types import Progress, silent


@dataclass(frozen=True)
class Videos:
    """The videos of a data set, decoded and resized when a process encodes them."""

    dataset: Path
    cameras: str = ""
    """One, or several, comma separated, for a space of several views; empty takes the data set's first."""
    data: DataConfig = field(default_factory=DataConfig)
    """Of its features and actions."""

    def open(self, image_size: int) -> Tensors:
        """Frames (T, H, V W, 3) uint8 by episode."""
        return DecodedFrames(open_source(self.data).reopen(self.dataset), self.cameras, image_size)


@dataclass(frozen=True)
class FrameStore:
    """Frames that are decoded already, in the :class:`TensorStore` of this folder."""

    root: Path

    def open(self, image_size: int) -> Tensors:
        """Frames (T, H, V W, 3) uint8 by episode."""
        return TensorStore(self.root)


@dataclass(frozen=True)
class Encoding:
    """What any process needs to know to encode any episode of a data set.

    The frames come from a store or straight from videos, the space from the folder that it was saved in::

        Encoding(folder / "space", FrameStore(frames), compute).write(folder / "store", processes=2)
        Encoding(folder / "space", Videos(dataset, "front,side", data), compute).write(out, processes=4)

    :func:`rslwm.latents.stored.open_latents` opens the first; both are a :class:`TensorStore`, of the same bytes.
    """

    space: Path
    frames: Videos | FrameStore
    compute: ComputeConfig

    def open(self) -> tuple[LatentSpace, Tensors]:
        """The space, on this process's device, and the frames; loaded once a process."""
        return _open(self)

    def write(self, root: Path, processes: int = 1, progress: Progress = silent) -> TensorStore:
        """Write the normalised latents (T, h, w, C) of every episode, those that are missing of the store in ``root``.

        Its bytes don't depend on the number of processes. Whether it fits on the disk is the caller's to ask, see
        :func:`rslwm.latents.store.require_room`.

        Raises:
            DataError: the store is one of something else.
        """
        space, frames = self.open()

        def latents(keys: list[str]) -> Iterator[Tensor]:
            # As integers, for NumPy has no bfloat16; tensors would need shared memory, which containers are short of.
            return (torch.from_numpy(x).view(torch.bfloat16) for x in spread(partial(_encode, self), keys, processes))

        return write_latents(latents, frames.keys, root, latents_meta(space, frames), progress)


@lru_cache(maxsize=1)
def _open(job: Encoding) -> tuple[LatentSpace, Tensors]:
    torch.set_num_threads(job.compute.threads)  # as many in every process: the number changes last digits
    space = LatentSpace.load(job.space)
    return space.to(device(_own_device(job.compute))), job.frames.open(space.config.image_size)


def _own_device(compute: ComputeConfig) -> ComputeConfig:
    """On a machine of several GPUs, they are taken in turns."""
    gpus = torch.cuda.device_count()
    return replace(compute, device=f"cuda:{number() % gpus}") if compute.device == "auto" and gpus > 1 else compute


def _encode(job: Encoding, key: str) -> np.ndarray:
    space, frames = job.open()
    return encode_episode(space.encode, frames[key], _own_device(job.compute)).view(torch.int16).numpy()
