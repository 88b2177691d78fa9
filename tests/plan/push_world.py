"""A world whose every frame is the last one moved by the action: goals tell the actions exactly."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.plan.base import MEGABYTE, PlanConfig, PlanResult, plan, row_bytes
from rslwm.types import ActionSpec

DIMS = 3
CONFIGS = {
    "cem": PlanConfig(planner="cem", candidates=64, iterations=6, elites=8, std=0.6, min_std=0.01),
    "mppi": PlanConfig(planner="mppi", candidates=64, iterations=8, temperature=0.5, std=0.6, min_std=0.01),
}


class PushWorld:
    action_spec = ActionSpec(tuple("xyz"), ("translation",) * DIMS, ("m",) * DIMS, (-1.0,) * DIMS, (1.0,) * DIMS)
    config = WorldModelConfig()
    dit = nn.Linear(1, 1)  # tells the precision

    def __init__(self) -> None:
        self.contexts: list[int] = []
        self.rows: list[int] = []

    def start(self, context: Tensor, actions: Tensor, full_window: bool = False) -> "PushState":
        assert actions.shape[:2] == (len(context), context.shape[1] - 1)
        self.contexts.append(len(context))
        return PushState(context[:, -1])

    def unroll(self, state: "PushState", actions: Tensor, sampling: SamplingConfig, noise: Tensor) -> Tensor:
        self.rows.append(len(actions))
        moved = state.frame.repeat_interleave(state.candidates, 0)[:, None] + actions.cumsum(1)[:, :, None, None]
        assert moved.shape == noise.shape
        shared = noise.unflatten(0, (-1, state.candidates))
        assert torch.equal(shared, shared[:, :1].expand_as(shared))
        return moved


class PushState:
    def __init__(self, frame: Tensor, candidates: int = 1) -> None:
        self.frame, self.candidates = frame, candidates

    def fork(self, candidates: int) -> "PushState":
        return PushState(self.frame, candidates)


def truths(windows: int = 5, steps: int = 1) -> Tensor:
    return torch.rand(windows, steps, DIMS, generator=torch.Generator().manual_seed(7)) * 1.8 - 0.9


def push(truth: Tensor, config: PlanConfig, seed: int = 0, world: PushWorld | None = None, **kwargs) -> PlanResult:
    """Plan for the latents that the true actions (B, k, A) lead to."""
    goals = truth.cumsum(1)[:, :, None, None].expand(-1, -1, 2, 2, -1)
    context, past = torch.zeros(len(truth), 2, 2, 2, DIMS), torch.zeros(len(truth), 1, DIMS)
    config = replace(config, horizon=truth.shape[1])
    generator = torch.Generator().manual_seed(seed)
    return plan(world or PushWorld(), context, past, goals, config, generator, **kwargs)


def room_for(rows: int, config: PlanConfig, world: PushWorld | None = None) -> PlanConfig:
    """The configuration with memory for this many futures of the push world."""
    needed = row_bytes((world or PushWorld).config, (2, 2, DIMS), config, torch.float32)
    return replace(config, memory_mb=(rows + 0.5) * needed / MEGABYTE)
