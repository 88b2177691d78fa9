"""How fast clips come from stored latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rslwm.bench.runner import Case
from rslwm.bench.world_model import SEED, SPEC, LatentsBenchmark
from rslwm.compute import generator
from rslwm.data.clips import Clips
from rslwm.data.store import TensorStore


@dataclass
class ClipsBenchmark(LatentsBenchmark):
    """A benchmark of episodes of about BridgeData's length, with latents of a published encoder's shape."""

    frames: int = 10
    """How many frames a clip has."""
    episodes: int = 24
    """How many made-up episodes clips are drawn from."""
    length: int = 40
    """How many frames an episode has."""

    @property
    def clip_bytes(self) -> int:
        """Stored bytes of a clip's latents, bfloat16."""
        return 2 * self.frames * self.grid**2 * self.channels

    def clips(self, folder: Path) -> Clips:
        """Write the latents to ``folder``; as they are read before it counts, they come from the page cache."""
        ids = [f"episode-{i:03d}" for i in range(self.episodes)]
        made = [self.latents(1, self.length, generator(SEED, "bench latents", i))[0] for i in range(self.episodes)]
        store = TensorStore.write(folder / "latents", zip(ids, made, strict=True), {"of": "made-up latents"})
        return Clips(store, ids, [self._actions(i) for i in range(self.episodes)], SPEC, self.frames)

    def _actions(self, episode: int) -> np.ndarray:
        drawn = torch.rand(self.length, SPEC.dims, generator=generator(SEED, "bench actions", episode))
        return SPEC.denormalise(2 * drawn.numpy() - 1)


@dataclass
class Data(ClipsBenchmark):
    """Measure how fast clips come from stored latents, which are noise in a temporary folder, on one core.

    For instance:
      rslwm bench data --grid 8 --batch 64 --out runs/bench
    """

    batch: int = 16
    """How many clips the store is asked for at once."""
    batches: int = 32
    """How many such batches are read in a round."""

    def cases(self, folder: Path) -> list[Case]:
        return [self.feed(self.clips(folder))]

    def feed(self, clips: Clips) -> Case:
        """Batches at random places."""
        windows, drawn = clips.windows(range(self.episodes)), generator(SEED, "bench clips")

        def draw() -> None:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            for _ in range(self.batches):
                clips.sample(windows, self.batch, drawn)
            torch.set_num_threads(threads)

        name = f"clips of {self.clip_bytes / 1e6:.3g} MB from the store, one core"
        return Case(name, draw, self.batches * self.batch, "clips")
