"""Planning: the actions whose imagined outcome is closest to a goal, found by any planner over any world model."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rslwm.model.sampler import RolloutState, SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.registry import Registry
from rslwm.serialisation import OPERATIONAL, known_by
from rslwm.types import ActionSpec


@dataclass(frozen=True)
class PlanConfig:
    """Search for actions over the world model, started from standing still, inside the action bounds."""

    planner: str = field(default="cem", metadata=known_by(lambda name: name.rpartition("/")[2]))
    """The planner: cem (cross-entropy method), mppi, or one of your own as path/to/file.py:function."""
    horizon: int = 1
    """Number of actions of a plan, one for every imagined frame."""
    candidates: int = 64
    """Number of plans that are imagined in every iteration."""
    iterations: int = 4
    """How often the search draws candidates around what it found so far."""
    elites: int = 8
    """Number of best candidates that cem fits its next iteration to."""
    temperature: float = 0.5
    """How sharply mppi prefers good candidates, in standard deviations of their costs; less is greedier."""
    std: float = 0.4
    """Standard deviation of the first candidates, in normalised actions (the bounds are at -1 and 1)."""
    min_std: float = 0.02
    """Standard deviation below which no iteration narrows the search."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=1))
    """How a frame is imagined; one step is the model's mean prediction, whose distances carry no sampling noise."""
    memory_mb: float = field(default=128.0, metadata=OPERATIONAL)
    """Memory for imagined futures; more than fit are rolled out in turn, which changes a result by rounding at most.
    Enough to keep a CPU busy; a GPU wants thousands."""


MEGABYTE = 2**20
ALLOCATOR = 2.0
"""Memory of a process per byte of living tensors: not all freed blocks are given back (with glibc: 1.2 to 2)."""

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


Search = Callable[[Evaluate, Tensor, PlanConfig, torch.Generator, tuple[int, ...] | None], PlanResult]
"""Minimises ``evaluate`` over actions in [-1, 1]. Arguments: evaluate; start (B, k, A), the plan to begin with, which
dimensions that aren't searched keep; the settings; a generator for all draws; the dimensions to search, None for all.
"""


PLANNERS: Registry[Search] = Registry("planner", "rslwm.planners", lambda: importlib.import_module("rslwm.plan.search"))


def latent_distance(imagined: Tensor, goals: Tensor) -> Tensor:
    """Mean squared distance over steps, grid and channels: the cost of the paper (section 6.1)."""
    return (imagined - goals).square().mean((-4, -3, -2, -1))


def no_signal(generator: torch.Generator) -> Evaluate:
    """Costs that know nothing: what a search does by itself, the floor beside every planning score."""
    return lambda candidates: torch.rand(candidates.shape[:2], generator=generator)


def stand_still(spec: ActionSpec, past: Tensor, horizon: int) -> Tensor:
    """The normalised plan (B, k, A) that keeps the robot where it is, after the actions ``past`` (B, T-1, A).

    Where the robot is isn't known of absolute actions without a past: then the middle of the bounds.
    """
    last = past[:, -1].float().cpu().numpy() if past.shape[1] else None
    still = torch.from_numpy(spec.still(last)).to(past.device).nan_to_num(0.0)
    return still.expand(len(past), -1)[:, None].expand(-1, horizon, -1)


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
    start: Tensor | None = None,
) -> PlanResult:
    """Search the k normalised actions that lead from the context through the goals.

    One noise tensor a window is shared by all candidates and iterations, so that costs differ by the actions alone.

    Args:
        context: (B, T, h, w, C), with ``context_actions`` (B, T-1, A) between its frames.
        goals: (B, k, h, w, C), the wanted latents after each of the k actions.
        searched: action dimensions to search; all by default.
        fixed: (B, k, A), values of the other dimensions; those of ``start`` by default.
        start: (B, k, A), where the search begins; by default the action that keeps the robot where it is.

    Raises:
        ConfigError: a setting of the search is impossible.
        UnknownName: there is no such planner.
        ValueError: the number of goals is not ``config.horizon``.
    """
    started = time.perf_counter()
    planner = PLANNERS.get(config.planner)
    steps = goals.shape[1]
    if steps != config.horizon:
        raise ValueError(f"goals {tuple(goals.shape)} hold {steps} steps, plan.horizon is {config.horizon}")
    if start is None:
        start = stand_still(world_model.action_spec, context_actions, steps)
    if fixed is not None and searched is not None:
        start, free = fixed.to(start, copy=True), start
        start[..., searched] = free[..., searched]
    evaluate = imagination(world_model, context, context_actions, goals.float(), config, generator, cost)
    result = planner(evaluate, start, config, generator, searched)
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
    h, w, channels = goals.shape[2:]
    rows = rows_at_once(world_model.config, (h, w, channels), config, _precision(world_model, goals.device.type))
    noise = torch.randn(goals.shape, generator=generator, device=generator.device).to(goals.device)
    states = [
        world_model.start(frames, actions, config.sampling.full_window)
        for frames, actions in zip(context.split(rows), context_actions.split(rows), strict=True)
    ]

    def evaluate(candidates: Tensor) -> Tensor:
        groups = zip(states, candidates.split(rows), goals.split(rows), noise.split(rows), strict=True)
        return torch.cat([torch.cat([*costs(*group)], 1) for group in groups])

    def costs(state: RolloutState, candidates: Tensor, goals: Tensor, noise: Tensor) -> Iterator[Tensor]:
        for part in candidates.split(max(1, rows // len(candidates)), 1):
            shape = part.shape[:2]
            started = noise.repeat_interleave(shape[1], 0)
            imagined = world_model.unroll(state.fork(shape[1]), part.flatten(0, 1), config.sampling, noise=started)
            yield cost(imagined.unflatten(0, shape), goals[:, None])

    return evaluate


def _precision(world_model: WorldModel, device: str) -> torch.dtype:
    """The dtype of its matrix products."""
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return next(world_model.dit.parameters()).dtype


def row_bytes(
    world_model: WorldModelConfig, latent: tuple[int, int, int], config: PlanConfig, dtype: torch.dtype
) -> int:
    """Memory of one imagined future, with latents (h, w, C) and matrix products in this dtype.

    Counted are the activations of the transformer's widest layer, over the frames of one forward pass; the keys and
    values of these and of the frames imagined before; and the float32 latents around them. All futures share the
    context, which isn't counted.
    """
    dit, (h, w, channels) = world_model.dit, latent
    tokens = h * w // dit.patch**2
    frames = _frames_of_a_pass(world_model, config)
    sees = dit.max_frames * (tokens if dit.temporal == "joint" else 1)
    # Elements a token. Feed-forward: residual, modulated, both halves of 8/3 widths, gate, product; as much in
    # attention, which turns queries and keys in float32. Scores are held as they are, joined and as weights.
    activations = max(16 * dit.width, dit.width + 4 * dit.wide_head) + 3 * dit.heads * sees
    modulations = 12 * dit.depth * dit.width
    # Of frames imagined before; held twice while the next is sampled, by the state before it and by the one after.
    key_values = dit.depth * dit.width * 2 * (frames - 1 + 2 * (config.horizon - 1))
    latents = 5 * config.horizon + (3 * dit.max_frames if config.sampling.full_window else 0)
    elements = tokens * (frames * activations + key_values) + frames * modulations
    return int(ALLOCATOR * (elements * dtype.itemsize + latents * h * w * channels * torch.float32.itemsize))


def _frames_of_a_pass(world_model: WorldModelConfig, config: PlanConfig) -> int:
    """Frames that a forward pass computes for a future: the new one, and those before it that aren't cached yet."""
    if config.sampling.full_window:
        return world_model.dit.max_frames
    return 1 if config.horizon == 1 and world_model.alignment == "incoming" else 2


def rows_at_once(
    world_model: WorldModelConfig, latent: tuple[int, int, int], config: PlanConfig, dtype: torch.dtype
) -> int:
    """Futures that ``config.memory_mb`` has room for; at least one."""
    return max(1, int(config.memory_mb * MEGABYTE / row_bytes(world_model, latent, config, dtype)))
