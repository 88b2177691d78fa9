"""Planning: the actions whose imagined outcome is closest to a goal, found by any planner over any world model."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rslwm.config import PlanConfig
from rslwm.model.world_model import WorldModel
from rslwm.plan.memory import rows_at_once
from rslwm.registry import Registry

Evaluate = Callable[[Tensor], Tensor]
"""Candidate actions (B, K, k, A) in [-1, 1] -> their costs (B, K)."""
Cost = Callable[[Tensor, Tensor], Tensor]
"""Imagined latents (B, K, k, h, w, C) and goals (B, 1, k, h, w, C) -> costs (B, K). Called for some of the windows and
candidates at a time."""


@dataclass(frozen=True)
class PlanResult:
    """The answer for B windows."""

    actions: Tensor
    """(B, k, A), normalised"""
    cost: Tensor
    """(B, iterations), mean cost of the candidates that the iteration was fitted to, weighted as it was"""
    std: Tensor
    """(B, k, A), of the last iteration; zero where nothing was searched"""
    seconds: float = 0.0
    """Wall time of :func:`plan` for all windows, the context's pass through the transformer included"""


Planner = Callable[[Evaluate, Tensor, PlanConfig, torch.Generator, tuple[int, ...] | None], PlanResult]
"""Minimises ``evaluate`` over actions in [-1, 1]. Arguments: evaluate; fixed (B, k, A), the values of the dimensions
that aren't searched; the settings; a generator for all draws; the dimensions to search, None for all."""


def _load_builtin() -> None:
    for module in ("cem", "mppi"):
        importlib.import_module(f"rslwm.plan.{module}")


PLANNERS: Registry[Planner] = Registry("planner", "rslwm.planners", _load_builtin)


def latent_distance(imagined: Tensor, goals: Tensor) -> Tensor:
    """Mean squared distance over steps, grid and channels: the cost of the paper (section 6.1)."""
    return (imagined - goals).square().mean((-4, -3, -2, -1))


def no_signal(generator: torch.Generator) -> Evaluate:
    """Costs that know nothing: what a search does by itself, the floor beside every planning score."""
    return lambda candidates: torch.rand(candidates.shape[:2], generator=generator)


def plan(
    world_model: WorldModel,
    context: Tensor,
    context_actions: Tensor,
    goals: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
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
        ConfigError: a setting of the search is impossible.
        UnknownName: there is no such planner.
        ValueError: the number of goals is not ``config.horizon``.
    """
    started = time.perf_counter()
    planner = PLANNERS.get(config.planner)
    windows, steps = goals.shape[:2]
    if steps != config.horizon:
        raise ValueError(f"goals {tuple(goals.shape)} hold {steps} steps, plan.horizon is {config.horizon}")
    if fixed is None:
        fixed = torch.zeros(windows, steps, world_model.action_spec.dims, device=goals.device)
    evaluate = imagination(world_model, context, context_actions, goals.float(), config, generator, cost)
    result = planner(evaluate, fixed, config, generator, searched)
    result.cost.sum().item()  # a device may still be computing; the clock stops when it has answered
    return replace(result, seconds=time.perf_counter() - started)


def imagination(
    world_model: WorldModel,
    context: Tensor,
    context_actions: Tensor,
    goals: Tensor,
    config: PlanConfig,
    generator: torch.Generator,
    cost: Cost = latent_distance,
) -> Evaluate:
    """What candidates cost in the world model's imagination; arguments as of :func:`plan`.

    The context passes through the transformer once, here. Candidates share it, as many at a time as ``memory_mb`` has
    room for; where not even one a window fits, the windows take turns too.
    """
    kind = goals.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    h, w, channels = goals.shape[2:]
    rows = rows_at_once(world_model.config, (h, w, channels), config, dtype)
    noise = torch.randn(goals.shape, generator=generator, device=generator.device).to(goals.device)
    parts = zip(context.split(rows), context_actions.split(rows), goals.split(rows), noise.split(rows), strict=True)
    groups = [(world_model.start(frames, actions, config.sampling.full_window), goal, start) for frames, actions, goal, start in parts]

    def evaluate(candidates: Tensor) -> Tensor:
        costs = []
        for (state, goal, start), group in zip(groups, candidates.split(rows), strict=True):
            scored = []
            for part in group.split(max(1, rows // len(group)), 1):
                windows, count = part.shape[:2]
                imagined = world_model.unroll(
                    state.fork(count), part.flatten(0, 1), config.sampling, noise=start.repeat_interleave(count, 0)
                )
                scored.append(cost(imagined.unflatten(0, (windows, count)), goal[:, None]))
            costs.append(torch.cat(scored, 1))
        return torch.cat(costs)

    return evaluate
