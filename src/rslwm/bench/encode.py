"""How fast frames become latents, and stored ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from rslwm.bench.benchmark import Benchmark
from rslwm.bench.memory import Work
from rslwm.bench.runner import Case, cast
from rslwm.bench.world_model import SEED
from rslwm.compute import generator, peak_flops, precision
from rslwm.data.store import TensorStore
from rslwm.latents.base import Encoder
from rslwm.latents.stored import encode_episodes
from rslwm.latents.views import to_float


@dataclass
class EncoderBenchmark(Benchmark):
    """A benchmark of an encoder; a published one has random weights where its own are missing."""

    batch: int = 8
    """How many frames an episode has, which are encoded at once."""
    episodes: int = 2
    """How many episodes are encoded in a round."""


class Encodings:
    """An encoder, and episodes of noise."""

    def __init__(self, bench: EncoderBenchmark, encoder: Encoder) -> None:
        self.bench, self.name = bench, encoder.spec.name + " with random weights" * encoder.stand_in()
        self.encoder = encoder.to(bench.where).eval()
        shape = (bench.batch, encoder.image_size, encoder.image_size, 3)
        drawn = [generator(SEED, "bench frames", i) for i in range(bench.episodes)]
        self.episodes = [torch.randint(0, 256, shape, generator=g, dtype=torch.uint8) for g in drawn]
        self.ready = [to_float(frames)[None].to(bench.where) for frames in self.episodes]

    def cases(self, folder: Path) -> list[Case]:
        """From float frames, and from a store of frames to a store of latents, reading and writing included."""
        items = ((f"episode-{i:03d}", frames) for i, frames in enumerate(self.episodes))
        stored, numbers = TensorStore.write(folder / "frames", items, {"of": "made-up frames"}), count()

        def written() -> TensorStore:
            root = folder / f"latents-{next(numbers)}"
            return encode_episodes(lambda x: self.encoder.encode(to_float(x)), stored, root, {}, self.bench.compute)

        def alone() -> None:
            for frames in self.ready:
                self.encoder.encode(frames)

        return [self.case("from frames", alone), self.case("from store to store", written)]

    def case(self, name: str, work: Work) -> Case:
        """Work on all the episodes."""
        bench = self.bench
        frames, dtype = bench.batch * bench.episodes, self.encoder.network_dtype or precision(bench.compute)
        flops, peak = float(frames * self.encoder.flops()[0]), peak_flops(bench.where, dtype)
        return Case(f"{self.name}, {name}", cast(work, bench.compute), frames, "frames", flops, peak)
