"""The cross-entropy method the published way: every candidate is a row of its own, context and all."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.straightforward.sampler import StraightforwardSampler
from rslwm.plan.base import PlanConfig


@torch.no_grad()
def plan(
    sampler: StraightforwardSampler,
    context: Tensor,
    actions: Tensor,
    goals: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
) -> Tensor:
    """Actions (B, k, A) in [-1, 1] that lead from the context (B, T, h, w, C) through the goals (B, k, h, w, C).

    Args:
        actions: (B, T, A), the one that conditions each context frame.
        config: candidates, elites, iterations, standard deviations and the denoising steps of a frame.
        generator: draws what :func:`rslwm.plan.base.plan` draws, in that order.
    """
    rows, steps = goals.shape[:2]
    noise = torch.randn(goals.shape, generator=generator).to(goals).repeat_interleave(config.candidates, 0)
    contexts, past = (x.repeat_interleave(config.candidates, 0) for x in (context, actions))
    mean = goals.new_zeros(rows, steps, actions.shape[-1])
    std = torch.full_like(mean, config.std)
    for _ in range(config.iterations):
        draws = torch.randn((rows, config.candidates, *mean.shape[1:]), generator=generator).to(mean)
        candidates = (mean[:, None] + std[:, None] * draws).clamp(-1, 1)
        conditions = torch.cat([past, candidates.flatten(0, 1)], 1)
        imagined = sampler.rollout(contexts, conditions, noise, config.sampling.steps)
        costs = (imagined.unflatten(0, (rows, -1)) - goals[:, None]).square().mean((2, 3, 4, 5))
        best = costs.topk(config.elites, largest=False).indices
        elites = candidates.take_along_dim(best[:, :, None, None], 1)
        mean, std = elites.mean(1), elites.std(1, correction=0).clamp_min(config.min_std)
    return mean
