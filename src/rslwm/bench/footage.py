"""Made-up episodes for measurements, each as an mp4 file and as stored latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from rslwm.bench.config import FootageConfig
from rslwm.bench.straightforward.feed import VideoFeed
from rslwm.compute import generator
from rslwm.data.clips import Clips
from rslwm.data.store import TensorStore
from rslwm.data.video import VideoWriter
from rslwm.types import end_effector_spec

SEED = 0
SPEC = end_effector_spec(0.05, 0.25)


@dataclass(frozen=True)
class Footage:
    """The same episodes both ways, and every place of a clip in them, (N, 2)."""

    clips: Clips
    videos: VideoFeed
    windows: np.ndarray


def moving_picture(config: FootageConfig, episode: int) -> np.ndarray:
    """A texture that drifts, with a little sensor noise: (T, H, W, 3) uint8."""
    g, size = generator(SEED, "bench footage", episode), config.image_size
    octaves = [torch.rand(1, 3, cells, cells, generator=g) for cells in (3, 9, 27)]
    texture = torch.cat([F.interpolate(octave, (size, size), mode="bicubic") for octave in octaves]).mean(0)
    rows, columns = torch.randint(-3, 4, (2,), generator=g).tolist()
    drift = torch.stack([texture.roll((t * rows, t * columns), (1, 2)) for t in range(config.length)])
    noisy = 255 * drift + torch.randn(config.length, 1, size, size, generator=g)
    return noisy.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def write_footage(config: FootageConfig, folder: Path, progress: Callable[[int], None] = lambda done: None) -> Footage:
    """Write both below ``folder``; the latents are noise, for what they hold costs nobody anything."""
    ids = [f"episode-{i:03d}" for i in range(config.episodes)]
    videos = [folder / f"{name}.mp4" for name in ids]
    for i, path in enumerate(videos):
        writer = VideoWriter(path, SPEC.hz, config.image_size, config.image_size)
        writer.add(moving_picture(config, i))
        writer.close()
        progress(i + 1)
    shape = (config.length, config.grid, config.grid, config.channels)
    latents = [torch.randn(shape, generator=generator(SEED, "bench latents", i)) for i in range(config.episodes)]
    store = TensorStore.write(folder / "latents", zip(ids, latents, strict=True), {"of": "made-up footage"})
    clips = Clips(store, ids, [_actions(config.length, i) for i in range(config.episodes)], SPEC, config.frames)
    feed = VideoFeed(videos, SPEC.hz, config.length, config.frames)
    return Footage(clips, feed, clips.windows(range(config.episodes)))


def _actions(length: int, episode: int) -> np.ndarray:
    drawn = torch.rand(length, SPEC.dims, generator=generator(SEED, "bench actions", episode))
    return SPEC.denormalise(2 * drawn.numpy() - 1)
