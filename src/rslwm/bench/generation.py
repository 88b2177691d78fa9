"""How fast a world model with random weights generates frames: in rollouts, and in the imagination of a planner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rslwm.bench.measure import Case, Work
from rslwm.bench.world_model import SEED, SPEC, ModelBenchmark
from rslwm.compute import autocast, generator
from rslwm.evals.rollouts import generating
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.plan.base import PlanConfig, plan
from rslwm.serialisation import ConfigError

WARM_UP = 20
"""The warm-up of a plan has this many times fewer candidates, and one iteration."""


@dataclass
class GenerationBenchmark(ModelBenchmark):
    """A benchmark of a world model that generates frames."""

    context: int = 2
    """How many frames are given, from which the others are generated."""
    steps: int = 10
    """How many denoising steps generate a frame."""

    def world_model(self) -> WorldModel:
        """Raises :class:`ConfigError` if the context leaves no room for a new frame."""
        most = self.dit.max_frames - 1
        if not 0 < self.context <= most:
            raise ConfigError(f"context is {self.context}; size {self.size} takes 1 to {most} frames")
        return super().world_model()

    def actions(self, rows: int, frames: int, drawn: torch.Generator) -> Tensor:
        """Normalised actions (rows, context - 1 + frames, A) of so many new frames."""
        return 2 * torch.rand((rows, self.context - 1 + frames, SPEC.dims), generator=drawn) - 1


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


@dataclass
class Plan(GenerationBenchmark):
    """Measure how fast the cross-entropy method finds a plan over a world model with random weights, and its memory.

    For instance:
      rslwm bench plan --iterations 5
      rslwm bench plan --size demo --grid 8 --channels 16 --candidates 64 --elites 8 --rounds 5 --out runs/bench
    """

    rounds: int = 1
    """How many plans are timed, after a small search that doesn't count."""
    grid: int = 4
    """How many rows, and as many columns, the latent grid has."""
    candidates: int = 400
    """How many sequences of actions an iteration of the search tries."""
    iterations: int = 1
    """How many iterations the search has. Each costs the same again."""
    elites: int = 40
    """How many of the best candidates the next iteration is fitted to."""
    horizon: int = 4
    """How many actions a plan has."""
    memory_mb: float = PlanConfig.memory_mb
    """How many MB of memory imagined futures may take."""

    def cases(self, folder: Path) -> list[Case]:
        return [Plans(self).case]

    @property
    def search(self) -> PlanConfig:
        """The search that is measured."""
        same = {name: getattr(self, name) for name in ("horizon", "candidates", "iterations", "elites", "memory_mb")}
        return PlanConfig(**same, sampling=SamplingConfig(self.steps))


class Plans:
    """A world model, a context, and goals that some sequence of actions leads to."""

    name = "context shared"

    def __init__(self, bench: Plan) -> None:
        self.bench = bench
        self.model = bench.world_model().for_inference(bench.compute)
        drawn = generator(SEED, "bench plan")
        self.context = bench.latents(1, bench.context, drawn).to(bench.where)
        actions = bench.actions(1, bench.horizon, drawn).to(bench.where)
        self.actions = actions[:, : bench.context - 1]
        with autocast(bench.compute):
            self.goals = self.model.rollout(self.context, actions, bench.search.sampling, drawn)

    def plan(self, search: PlanConfig) -> Tensor:
        """(1, k, A)."""
        drawn = generator(SEED, "bench candidates")
        start = self.goals.new_zeros(1, search.horizon, SPEC.dims)
        with autocast(self.bench.compute):
            return plan(self.model, self.context, self.actions, self.goals, search, drawn, start=start).actions

    @property
    def passes(self) -> int:
        """Frames that go through the transformer; the context goes once for all futures."""
        bench = self.bench
        future = generating(SamplingConfig(bench.steps), bench.context, bench.horizon) - bench.context
        return bench.context + bench.candidates * bench.iterations * future

    @property
    def case(self) -> Case:
        """The whole search."""
        bench = self.bench
        few = replace(bench.search, candidates=max(1, bench.candidates // WARM_UP), iterations=1, elites=1)
        work, flops = partial(self.plan, bench.search), self.passes * bench.pass_flops(self.model)
        memory = partial(_prepare, type(self), bench, torch.get_num_threads())
        return Case(self.name, work, 1, "plans", flops, bench.peak, warm_up=partial(self.plan, few), memory=memory)


def _prepare(kind: type[Plans], bench: Plan, threads: int) -> Work:
    """One iteration of one denoising step, which takes as much memory as all of them."""
    torch.set_num_threads(threads)
    return partial(kind(bench).plan, replace(bench.search, iterations=1, sampling=SamplingConfig(1)))
