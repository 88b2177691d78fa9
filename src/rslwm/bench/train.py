"""How fast a world model trains from stored latents."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rslwm import optim
from rslwm.bench.data import ClipsBenchmark
from rslwm.bench.runner import Case
from rslwm.bench.world_model import SEED, ModelBenchmark
from rslwm.compute import ComputeConfig, generator, peak_flops, precision
from rslwm.data.clips import ClipBatch, Clips
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.train import loop
from rslwm.train.checkpoint import Training


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
