"""How fast a plan is found, against candidates that are a batch of full contexts."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from rslwm.bench.config import PlanBenchConfig
from rslwm.bench.memory import peak_bytes
from rslwm.bench.passes import cached, recomputed
from rslwm.bench.result import Comparison, Measurement
from rslwm.bench.straightforward import planner
from rslwm.bench.timing import Work, announce, paired, timed
from rslwm.bench.world import SPEC, led_here, straightforward, world_model
from rslwm.compute import ComputeConfig, autocast, device, generator, peak_flops, precision
from rslwm.model.dit import forward_flops
from rslwm.model.sampler import SamplingConfig
from rslwm.plan.base import PlanConfig, plan

SIDES = ("ours", "baseline")
TRIAL = 20
"""The trial before the measurement has this many times fewer candidates, and one iteration."""


class Plans:
    """One model, one context, and goals that some sequence of actions leads to; the same search by either planner."""

    def __init__(self, config: PlanBenchConfig, compute: ComputeConfig) -> None:
        self.config, self.compute = config, compute
        self.model = world_model(config, compute)
        self.published = straightforward(self.model)
        self.model.for_inference(compute)
        self.search = PlanConfig(
            horizon=config.horizon,
            candidates=config.candidates,
            iterations=config.iterations,
            elites=config.elites,
            sampling=SamplingConfig(config.steps),
            memory_mb=config.memory_mb,
        )
        drawn, where = generator(config.seed, "bench plan"), device(compute)
        context = torch.randn((1, config.context, config.grid, config.grid, config.channels), generator=drawn)
        actions = 2 * torch.rand((1, config.context - 1 + config.horizon, SPEC.dims), generator=drawn) - 1
        self.context, self.actions = context.to(where), actions[:, : config.context - 1].to(where)
        with autocast(compute):
            self.goals = self.model.rollout(self.context, actions.to(where), self.search.sampling, drawn)

    def ours(self, search: PlanConfig) -> Tensor:
        """(1, k, A), the context shared by all candidates."""
        drawn = generator(self.config.seed, "bench candidates")
        start = self.goals.new_zeros(1, search.horizon, SPEC.dims)
        with autocast(self.compute):
            return plan(self.model, self.context, self.actions, self.goals, search, drawn, start=start).actions

    def baseline(self, search: PlanConfig) -> Tensor:
        """(1, k, A), with a context for every candidate."""
        drawn = generator(self.config.seed, "bench candidates")
        with autocast(self.compute):
            return planner.plan(self.published, self.context, led_here(self.actions), self.goals, search, drawn)


def measure(config: PlanBenchConfig, compute: ComputeConfig) -> Comparison:
    """Both planners on the same draws: seconds, peak memory, and by how much their plans differ (normalised actions).

    A trial of both with few candidates goes first; it warms them up and says how long the measurement will take.
    """
    plans, dtype = Plans(config, compute), precision(compute)
    title = f"CEM {config.candidates} x {config.iterations}, k = {config.horizon}, {str(dtype).removeprefix('torch.')}"
    small = replace(plans.search, candidates=max(1, config.candidates // TRIAL), iterations=1, elites=1)
    trial = timed(lambda: plans.ours(small)) + timed(lambda: plans.baseline(small))
    futures = config.candidates * config.iterations
    announce(title, config.rounds * trial * futures / small.candidates)

    answers: dict[str, Tensor] = {}
    ours, baseline = paired(
        lambda: answers.update(ours=plans.ours(plans.search)),
        lambda: answers.update(baseline=plans.baseline(plans.search)),
        config.rounds,
        warmup=0,
        label=title,
    )
    peaks = [peak_bytes(partial(_prepare, side, config, compute, torch.get_num_threads())) for side in SIDES]
    counted = (config.horizon, config.context, config.steps, plans.model.config.dit.max_frames)
    slides = config.context + config.horizon > plans.model.config.dit.max_frames
    agreement = "largest difference of the plans" + ", whose windows slide differently" * slides
    stored, anew = cached(*counted, futures), recomputed(*counted)
    pass_flops = futures * forward_flops(plans.model.dit, (config.grid, config.grid))
    return Comparison(
        title,
        {**asdict(config), "dtype": str(dtype).removeprefix("torch.")},
        Measurement("context shared", ours, 1, "plans", stored * pass_flops, peaks[0]),
        Measurement("context for every candidate", baseline, 1, "plans", anew * pass_flops, peaks[1]),
        bound=anew / stored,
        peak=peak_flops(device(compute), dtype),
        quality={agreement: float((answers["ours"] - answers["baseline"]).abs().max())},
    )


def _prepare(side: str, config: PlanBenchConfig, compute: ComputeConfig, threads: int) -> Work:
    """One iteration of one denoising step, which takes as much memory as all of them."""
    torch.set_num_threads(threads)
    plans = Plans(config, compute)
    search = replace(plans.search, iterations=1, sampling=SamplingConfig(1))
    return partial(plans.ours if side == "ours" else plans.baseline, search)
