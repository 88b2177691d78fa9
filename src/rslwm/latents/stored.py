"""The features or latents of all frames as one stage leaves them to the next: stored or, where they are too wide,
encoded whenever they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.filesize import decimal
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from rslwm.compute import ComputeConfig, device
from rslwm.data.store import Places, Readable, Tensors, TensorStore
from rslwm.latents.space import LatentSpace
from rslwm.latents.store import Encode, encode_episode, encode_episodes, require_room
from rslwm.types import LatentSpec, Progress, silent

SPACE, STORE = "space", "store"
"""Subfolders of what :func:`leave_latents` leaves."""


def too_wide(spec: LatentSpec, stream_above_kb: float) -> bool:
    """Whether latents are not to be stored; see :attr:`rslwm.study.config.StudyConfig.stream_above_kb`."""
    return 0 < stream_above_kb * 1024 < spec.bytes_per_frame


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

    Raises:
        DataError: the latents are to be stored, and don't fit on the disk.
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
    if features is None:
        encode_episodes(space.encode, frames, root, meta, compute, progress)
    else:
        encode_episodes(space.encode_features, features, root, meta, compute, progress)


def latents_meta(space: LatentSpace, frames: Tensors) -> dict[str, Any]:
    """What identifies the latents of these frames in that space."""
    return {"latents of": frames.meta, **space.spec.to_dict()}


def open_latents(folder: Path, frames: TensorStore, compute: ComputeConfig) -> Readable:
    """The latents of these frames that :func:`leave_latents` left in a folder."""
    if (folder / STORE).is_dir():
        return TensorStore(folder / STORE)
    space = LatentSpace.load(folder / SPACE).to(device(compute))
    return StreamedTensors(space.encode, frames, (*space.spec.grid, space.spec.channels), compute)


class StreamedTensors:
    """What a store of latents would hold, in its precision; equal up to what the frames of a batch do to each other's
    rounding.

    Args:
        encode: (1, T, ...) as the store of frames holds them -> (1, T, h, w, C).
        latent: (h, w, C).
    """

    def __init__(self, encode: Encode, frames: TensorStore, latent: tuple[int, ...], compute: ComputeConfig) -> None:
        self.encode, self.frames, self.latent, self.compute = encode, frames, latent, compute

    def __str__(self) -> str:
        return f"latents of {self.frames}"

    @property
    def keys(self) -> list[str]:
        return self.frames.keys

    @property
    def meta(self) -> dict[str, Any]:
        return self.frames.meta

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
