"""How fast clips come from stored latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from rslwm.bench.clips import OfClips
from rslwm.bench.runner import Case
from rslwm.bench.world_model import SEED
from rslwm.compute import generator
from rslwm.data.clips import Clips


@dataclass
class Data(OfClips):
    """Measure how fast clips come from stored latents, which are noise in a temporary folder, on one core.

    For instance:
      rslwm bench data --grid 8 --batch 64 --out runs/bench
    """

    batch: int = 16
    """Clips that the store is asked for at once."""
    batches: int = 32
    """Such batches in a round."""

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
