"""How fast a world model rolls out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from rslwm.bench.runner import Case
from rslwm.bench.world_model import SEED, GenerationBenchmark
from rslwm.compute import autocast, generator
from rslwm.evals.rollouts import generating
from rslwm.model.sampler import SamplingConfig


@dataclass
class Rollout(GenerationBenchmark):
    """Measure how fast a world model with random weights rolls out.

    For instance:
      rslwm bench rollout --grid 8
      rslwm bench rollout --frames 40 --batch 4 --dtype float32 --out runs/bench
    """

    frames: int = 8
    """How many frames are generated."""
    batch: int = 1
    """How many rollouts are made at once."""

    def cases(self, folder: Path) -> list[Case]:
        return [Rollouts(self).case(self.steps)]


class Rollouts:
    """A world model, and one draw of latents, actions and noise."""

    def __init__(self, bench: Rollout) -> None:
        self.bench = bench
        self.model = bench.world_model().for_inference(bench.compute)
        drawn = generator(SEED, "bench rollout")
        self.context = bench.latents(bench.batch, bench.context, drawn).to(bench.where)
        self.noise = bench.latents(bench.batch, bench.frames, drawn).to(bench.where)
        self.actions = bench.actions(bench.batch, bench.frames, drawn).to(bench.where)

    def ours(self, frames: int, steps: int) -> Tensor:
        """(B, frames, h, w, C), the first ones of the rollout."""
        actions = self.actions[:, : self.bench.context - 1 + frames]
        with autocast(self.bench.compute):
            return self.model.rollout(self.context, actions, SamplingConfig(steps), noise=self.noise[:, :frames])

    def passes(self, steps: int) -> int:
        """Frames that go through the transformer."""
        return generating(SamplingConfig(steps), self.bench.context, self.bench.frames)

    def case(self, steps: int) -> Case:
        """The whole rollout with so many denoising steps a frame."""
        bench = self.bench
        made = bench.batch * bench.frames
        flops = bench.batch * self.passes(steps) * bench.pass_flops(self.model)
        name, work = f"{bench.frames} frames at {steps} steps", partial(self.ours, bench.frames, steps)
        return Case(name, work, made, "frames", flops, bench.peak, warm_up=partial(self.ours, 1, steps))
