"""A few frames to try an encoder on, without importing or decoding a whole data set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from rslwm.data.config import DataConfig
from rslwm.data.dataset import CAMERA, build_dataset
from rslwm.data.frames import resize
from rslwm.data.hdf5 import read_hdf5
from rslwm.data.rlds import read_rlds
from rslwm.sim.config import SimConfig
from rslwm.types import DataError

EPISODES = 4
SIMULATOR = DataConfig.uri


def few_frames(data: DataConfig, count: int) -> Tensor:
    """``count`` frames of the configured camera, spread over the first few episodes: (count, H, W, 3) uint8.

    The simulator renders them, at the size that they are asked for.

    Raises:
        DataError: the data can't be read, or hold no frames of this camera.
    """
    frames = np.concatenate([*_videos(data)] or [np.empty((0, 1, 1, 3), np.uint8)])
    if not len(frames):
        raise DataError(f"{data.uri} holds no episodes")
    chosen = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    return torch.from_numpy(resize(chosen, data.image_size))


def _videos(data: DataConfig) -> Iterator[np.ndarray]:
    scheme, _, location = data.uri.partition(":")
    if data.uri == SIMULATOR:
        from rslwm.sim.record import record_episode  # a machine that only reads data needn't have a renderer

        sim = SimConfig(image_size=data.image_size)
        yield from (_of_camera(record_episode(sim, i).frames, data) for i in range(EPISODES))
    elif scheme in ("rlds", "hdf5"):  # read where it lies; a study imports it
        read = read_rlds if scheme == "rlds" else read_hdf5
        episodes = islice(read(Path(location).expanduser(), data.features), EPISODES)
        yield from (_of_camera(episode.frames, data) for episode in episodes)
    else:
        with TemporaryDirectory(prefix="rslwm-samples-") as folder:
            dataset = build_dataset(data, Path(folder))
            camera = dataset.camera(data.camera)
            yield from (dataset.frames(i, camera) for i in range(min(EPISODES, len(dataset))))


def _of_camera(frames: dict[str, np.ndarray], data: DataConfig) -> np.ndarray:
    camera = data.camera.removeprefix(CAMERA) or next(iter(frames), "")
    if camera not in frames:
        raise DataError(f"{data.uri} has no camera {data.camera!r}; it has: {', '.join(frames) or 'none'}")
    return frames[camera]
