"""Made-up episodes as mp4 files, and the encoder that clips of them go through."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.straightforward.encoder import ViT, ViTConfig
from benchmarks.straightforward.feed import VideoFeed
from rslwm.bench.training import ClipsBenchmark
from rslwm.bench.world_model import SEED, SPEC
from rslwm.compute import generator, precision, seeded
from rslwm.data.video import VideoWriter
from rslwm.serialisation import ConfigError


@dataclass
class VideoBenchmark(ClipsBenchmark):
    """A benchmark of episodes that are stored latents and videos."""

    image_size: int = 256
    """How many pixels a side of the video has, a multiple of the grid's."""
    encoder: ViTConfig = field(default_factory=ViTConfig)

    def videos(self, folder: Path) -> VideoFeed:
        """Write every episode to an mp4 file."""
        paths = [folder / f"episode-{i:03d}.mp4" for i in range(self.episodes)]
        for episode, path in enumerate(paths):
            writer = VideoWriter(path, SPEC.hz, self.image_size, self.image_size)
            writer.add(self.moving_picture(episode))
            writer.close()
        return VideoFeed(paths, SPEC.hz, self.length, self.frames)

    def moving_picture(self, episode: int) -> np.ndarray:
        """A texture that drifts, with a little sensor noise: (T, H, W, 3) uint8."""
        g, size = generator(SEED, "bench footage", episode), self.image_size
        octaves = [torch.rand(1, 3, cells, cells, generator=g) for cells in (3, 9, 27)]
        texture = torch.cat([F.interpolate(octave, (size, size), mode="bicubic") for octave in octaves]).mean(0)
        rows, columns = torch.randint(-3, 4, (2,), generator=g).tolist()
        drift = torch.stack([texture.roll((t * rows, t * columns), (1, 2)) for t in range(self.length)])
        noisy = 255 * drift + torch.randn(self.length, 1, size, size, generator=g)
        return noisy.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    def vit(self) -> ViT:
        """The encoder, with random weights; the precision is its own, as that of frozen encoders is.

        Raises:
            ConfigError: patches of this size don't cut the frames into the latent grid.
        """
        patch = self.encoder.patch
        if patch * self.grid != self.image_size:
            raise ConfigError(
                f"encoder.patch {patch} cuts {self.image_size} px into {self.image_size / patch:g} a side, "
                f"but the grid is {self.grid}; set encoder.patch, image_size or grid"
            )
        with seeded(SEED, "bench encoder"):
            return ViT(self.encoder, self.grid, self.channels, precision(self.compute)).to(self.where)
