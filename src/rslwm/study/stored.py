"""Features and latents as one stage leaves them to the next: stored or, where they are too wide, made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.filesize import decimal
from torch import Tensor

from rslwm.compute import ComputeConfig, device
from rslwm.data.store import INDEX, Readable, TensorStore
from rslwm.latents.space import LatentSpace
from rslwm.latents.store import to_float
from rslwm.latents.streaming import StreamedTensors
from rslwm.types import DataError, LatentSpec

SPACE, STORE = "space", "store"


def too_wide(spec: LatentSpec, stream_above_kb: float) -> bool:
    """Whether latents are not to be stored; see :attr:`StudyConfig.stream_above_kb`."""
    return 0 < stream_above_kb * 1024 < spec.bytes_per_frame


def keep(root: Path, space: LatentSpace, frames: TensorStore, streamed: bool) -> bool:
    """Whether to store what the space makes of all frames, which is not if it is ``streamed``. Says what storing takes.

    Raises:
        DataError: it is to be stored, and doesn't fit on the disk.
    """
    count = sum(frames.shape(key)[0] for key in frames.keys)
    needed = count * space.spec.bytes_per_frame
    what = f"{space.spec.name}: {count:,} frames of {space.spec.bytes_per_frame:,} bytes are {decimal(needed)}"
    if not streamed:
        print(what)
        require_room(root, needed, "have them encoded whenever they are read (--stream-above-kb)")
        return True
    print(f"{what}: not stored, but encoded whenever they are read (--stream-above-kb)")
    return False


def open_features(folder: Path, frames: TensorStore, compute: ComputeConfig) -> Readable:
    """Native features of these frames, not normalised."""
    if not (folder / SPACE).is_dir():
        return TensorStore(folder)
    space = _on_device(folder, compute)

    def encode(stored: Tensor) -> Tensor:
        return space.features(to_float(stored))

    return StreamedTensors(encode, frames, _latent(space.spec), compute)


def open_latents(folder: Path, frames: TensorStore, compute: ComputeConfig) -> Readable:
    """Normalised latents of these frames."""
    if (folder / STORE).is_dir():
        return TensorStore(folder / STORE)
    space = _on_device(folder, compute)

    def encode(stored: Tensor) -> Tensor:
        return space.encode(to_float(stored))

    return StreamedTensors(encode, frames, _latent(space.spec), compute)


def _on_device(folder: Path, compute: ComputeConfig) -> LatentSpace:
    return LatentSpace.load(folder / SPACE).to(device(compute))


def _latent(spec: LatentSpec) -> tuple[int, int, int]:
    return (*spec.grid, spec.channels)


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
