"""How fast a plan is found, and in how much memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rslwm.bench.memory import Work
from rslwm.bench.runner import Case
from rslwm.bench.world_model import SEED, SPEC, GenerationBenchmark
from rslwm.compute import autocast, generator
from rslwm.evals.rollouts import generating
from rslwm.model.sampler import SamplingConfig
from rslwm.plan.base import PlanConfig, plan

WARM_UP = 20
"""The warm-up has this many times fewer candidates, and one iteration."""


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
        return [Plans(self).case("ours", "context shared")]

    @property
    def search(self) -> PlanConfig:
        """The search that is measured."""
        same = {name: getattr(self, name) for name in ("horizon", "candidates", "iterations", "elites", "memory_mb")}
        return PlanConfig(**same, sampling=SamplingConfig(self.steps))


class Plans:
    """A world model, a context, and goals that some sequence of actions leads to."""

    def __init__(self, bench: Plan) -> None:
        self.bench = bench
        self.model = bench.world_model().for_inference(bench.compute)
        drawn = generator(SEED, "bench plan")
        self.context = bench.latents(1, bench.context, drawn).to(bench.where)
        actions = bench.actions(1, bench.horizon, drawn).to(bench.where)
        self.actions = actions[:, : bench.context - 1]
        with autocast(bench.compute):
            self.goals = self.model.rollout(self.context, actions, bench.search.sampling, drawn)

    def ours(self, search: PlanConfig) -> Tensor:
        """(1, k, A)."""
        drawn = generator(SEED, "bench candidates")
        start = self.goals.new_zeros(1, search.horizon, SPEC.dims)
        with autocast(self.bench.compute):
            return plan(self.model, self.context, self.actions, self.goals, search, drawn, start=start).actions

    @property
    def passes(self) -> dict[str, int]:
        """Frames that go through the transformer, by method: here the context goes once for all futures."""
        bench = self.bench
        future = generating(SamplingConfig(bench.steps), bench.context, bench.horizon) - bench.context
        return {"ours": bench.context + bench.candidates * bench.iterations * future}

    def case(self, method: str, name: str) -> Case:
        """The whole search by one of the methods."""
        bench, search = self.bench, getattr(self, method)
        few = replace(bench.search, candidates=max(1, bench.candidates // WARM_UP), iterations=1, elites=1)
        return Case(
            name,
            partial(search, bench.search),
            1,
            "plans",
            self.passes[method] * bench.pass_flops(self.model),
            bench.peak,
            warm_up=partial(search, few),
            memory=partial(_prepare, type(self), bench, method, torch.get_num_threads()),
        )


def _prepare(kind: type[Plans], bench: Plan, method: str, threads: int) -> Work:
    """One iteration of one denoising step, which takes as much memory as all of them."""
    torch.set_num_threads(threads)
    return partial(getattr(kind(bench), method), replace(bench.search, iterations=1, sampling=SamplingConfig(1)))
