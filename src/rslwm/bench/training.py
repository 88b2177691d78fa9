"""How fast clips come from stored latents, and how fast a world model trains on them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rslwm import optim
from rslwm.bench.measure import Case
from rslwm.bench.world_model import SEED, SPEC, LatentsBenchmark, ModelBenchmark
from rslwm.compute import ComputeConfig, generator, peak_flops, precision
from rslwm.data.clips import ClipBatch, Clips
from rslwm.data.store import TensorStore
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.train import loop
from rslwm.train.checkpoint import Training


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


@dataclass
class Train(ClipsBenchmark, ModelBenchmark):
    """Measure how fast a world model trains from stored latents, which are noise in a temporary folder.

    For instance:
      rslwm bench train --dtype bfloat16 --compile --out runs/bench
      rslwm bench train --size B --batch 4 --accumulate 2 --checkpoint-activations
    """

    rounds: int = 5
    """How many steps are timed, after one that doesn't count."""
    batch: int = 1
    """How many clips pass through the transformer at once."""
    accumulate: int = 1
    """How many such batches a step has."""
    compile: bool = ComputeConfig.compile
    """Whether the transformer is compiled with torch.compile."""
    checkpoint_activations: bool = ComputeConfig.checkpoint_activations
    """Whether the transformer's activations are recomputed in the backward pass."""

    @property
    def compute(self) -> ComputeConfig:
        return ComputeConfig(self.device, self.dtype, self.compile, self.checkpoint_activations)

    @property
    def optim(self) -> OptimConfig:
        """The world model's own, with these batches."""
        return replace(WorldModelConfig().optim, batch_size=self.batch, accumulate=self.accumulate)

    def cases(self, folder: Path) -> list[Case]:
        return [Trainings(self, self.clips(folder)).case(self.compute)]


class Trainings:
    """The training loop over stored latents; batch i and its noise are always the same."""

    def __init__(self, bench: Train, clips: Clips) -> None:
        self.bench, self.clips = bench, clips
        self.windows = clips.windows(range(bench.episodes))
        self.model = bench.world_model().train()
        dit, self.steps = self.model.dit, 0
        average = copy.deepcopy(dit).eval().requires_grad_(False)
        self.training = Training(dit, optim.build(dit, bench.optim), average)
        dit.checkpoint_activations = bench.checkpoint_activations
        if bench.compile:
            dit.compile()

    def batch(self, number: int) -> tuple[Tensor, Tensor, torch.Generator]:
        """Latents, actions and where noise comes from."""
        clips = self.clips.sample(self.windows, self.bench.batch, generator(SEED, "bench batch", number))
        noise = generator(SEED, "bench noise", number)
        return self.latents(clips), clips.actions.to(self.bench.where), noise

    def latents(self, clips: ClipBatch) -> Tensor:
        """(B, T, h, w, C), as they are stored."""
        return clips.x.to(self.bench.where).float()

    def ours(self, compute: ComputeConfig) -> None:
        """One step of the training loop."""

        def loss(number: int) -> tuple[Tensor, dict[str, Tensor]]:
            return self.model.loss(*self.batch(number)), {}

        loop.train_step(self.training, loss, self.steps, self.bench.optim, compute)
        self.steps += 1

    def case(self, compute: ComputeConfig) -> Case:
        """One step in some precision. Backward takes twice the FLOPs of forward, products of matrices only."""
        bench, dtype = self.bench, precision(compute)
        name, clips = f"step of a DiT-{bench.size}, {dtype}".replace("torch.", ""), bench.batch * bench.accumulate
        flops = 3 * clips * bench.pass_flops(self.model, bench.frames)
        return Case(name, partial(self.ours, compute), clips, "clips", flops, peak_flops(bench.where, dtype))
