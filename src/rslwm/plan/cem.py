"""Cross-entropy method: actions whose imagined outcome is closest to a goal (arXiv 2605.06388 section 6.1).

Unlike the paper's search, which starts at the true action, this one starts at zero and never leaves the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rslwm.config import CEMConfig
from rslwm.model.world_model import WorldModel

Evaluate = Callable[[Tensor], Tensor]
"""Candidate actions (B, K, k, A) -> their costs (B, K)."""
Cost = Callable[[Tensor, Tensor], Tensor]
"""Imagined and goal latents, both (B, K, k, h, w, C), broadcastable -> costs (B, K)."""


@dataclass(frozen=True)
class PlanResult:
    """The answer for B windows."""

    actions: Tensor
    """(B, k, A), normalised: mean of the last elites"""
    cost: Tensor
    """(B, iterations), mean cost of the elites"""
    std: Tensor
    """(B, k, A), of the last elites; zero where nothing was searched"""


def latent_distance(imagined: Tensor, goals: Tensor) -> Tensor:
    """Mean squared distance over steps, grid and channels."""
    return (imagined - goals).square().mean((-4, -3, -2, -1))


def no_signal(generator: torch.Generator) -> Evaluate:
    """Costs that know nothing: what the search does by itself, the floor beside every planning score."""
    return lambda candidates: torch.rand(candidates.shape[:2], generator=generator)


def plan(
    world_model: WorldModel,
    context: Tensor,
    context_actions: Tensor,
    goals: Tensor,
    config: CEMConfig,
    generator: torch.Generator,
    euler_steps: int,
    searched: tuple[int, ...] | None = None,
    fixed: Tensor | None = None,
    cost: Cost = latent_distance,
) -> PlanResult:
    """Search the k normalised actions that lead from the context through the goals.

    One noise tensor a window is shared by all candidates and iterations, so that costs differ by the actions alone.

    Args:
        context: (B, T, h, w, C), with ``context_actions`` (B, T-1, A) between its frames.
        goals: (B, k, h, w, C), the wanted latents after each of the k actions.
        searched: action dimensions to search; all by default.
        fixed: (B, k, A), values of the other dimensions; zeros by default.

    Raises:
        ValueError: the number of goals is not ``config.horizon``, or a setting of the search is impossible.
    """
    windows, steps = goals.shape[:2]
    if steps != config.horizon:
        raise ValueError(f"goals {tuple(goals.shape)} hold {steps} steps, cem.horizon is {config.horizon}")
    noise = torch.randn(goals.shape, generator=generator, device=generator.device).to(goals.device)
    state = world_model.start(context, context_actions)
    at_once = max(1, config.rows // windows)

    def evaluate(candidates: Tensor) -> Tensor:
        return torch.cat([imagine_and_score(part) for part in candidates.split(at_once, 1)], 1)

    def imagine_and_score(candidates: Tensor) -> Tensor:
        count = candidates.shape[1]
        imagined = world_model.unroll(
            state.fork(count), candidates.flatten(0, 1), euler_steps, noise=noise.repeat_interleave(count, 0)
        )
        return cost(imagined.unflatten(0, (windows, count)), goals[:, None].float())

    if fixed is None:
        fixed = torch.zeros(windows, steps, world_model.action_spec.dims, device=goals.device)
    return search(evaluate, fixed, config, generator, searched)


def search(
    evaluate: Evaluate,
    fixed: Tensor,
    config: CEMConfig,
    generator: torch.Generator,
    searched: tuple[int, ...] | None = None,
) -> PlanResult:
    """Minimise ``evaluate`` over actions (B, k, A) in [-1, 1], from zero; ``fixed`` fills the dimensions not searched.

    Samples are clamped rather than redrawn: the mass beyond a bound lies on it, so that a full-speed action is found.
    """
    if not 0 < config.elites <= config.candidates or config.iterations < 1:
        raise ValueError(f"cem needs 0 < elites <= candidates and iterations >= 1, got {config}")
    mask = torch.zeros(fixed.shape[-1], dtype=torch.bool, device=fixed.device)
    mask[list(range(fixed.shape[-1]) if searched is None else searched)] = True
    mean, std = torch.where(mask, 0.0, fixed.float()), mask * torch.full_like(fixed, config.std, dtype=torch.float32)
    shape = (len(fixed), config.candidates, *fixed.shape[1:])
    history = []
    for _ in range(config.iterations):
        draws = torch.randn(shape, generator=generator, device=generator.device).to(fixed.device)
        candidates = torch.where(mask, (mean[:, None] + std[:, None] * draws).clamp(-1, 1), mean[:, None])
        costs, best = evaluate(candidates).topk(config.elites, largest=False)
        elites = candidates.take_along_dim(best[:, :, None, None], 1)
        mean, std = elites.mean(1), mask * elites.std(1, correction=0).clamp_min(config.min_std)
        history.append(costs.mean(1))
    return PlanResult(mean, torch.stack(history, 1), std)
