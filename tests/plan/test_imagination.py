"""What planners look at: the context once, candidates a few at a time."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from push_world import CONFIGS, DIMS, PushWorld, push, room_for, truths
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.plan.base import PlanConfig, PlanResult, plan
from rslwm.registry import UnknownName
from rslwm.types import LatentSpec, end_effector_spec

CONFIG = CONFIGS["cem"]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("rows", [1, 3, 35])
def test_memory_does_not_change_the_plan(config: PlanConfig, rows: int) -> None:
    world = PushWorld()
    parts = push(truths(), room_for(rows, config), world=world)
    assert max(world.rows) <= rows
    assert torch.allclose(parts.actions, push(truths(), config).actions, atol=1e-6)


def test_the_context_is_computed_once_a_plan() -> None:
    world = PushWorld()
    push(truths(5), room_for(64, CONFIG), world=world)
    assert world.contexts == [5]
    assert len(world.rows) == CONFIG.iterations * 6  # 64 candidates, 12 of each window at a time


def test_windows_take_turns_where_not_even_one_candidate_of_each_fits() -> None:
    world = PushWorld()
    push(truths(5), room_for(2, CONFIG), world=world)
    assert world.contexts == [2, 2, 1]


def test_a_cost_of_ones_own() -> None:
    def upwards(imagined: Tensor, goals: Tensor) -> Tensor:
        return -imagined[..., 2].mean((-3, -2, -1))

    result = push(truths(), replace(CONFIG, iterations=12), cost=upwards)
    assert (result.actions[..., 2] > 0.9).all()


def test_the_clock_runs() -> None:
    assert push(truths(), CONFIG).seconds > 0


def test_goals_must_fill_the_horizon() -> None:
    context, past, goals = torch.zeros(1, 2, 2, 2, DIMS), torch.zeros(1, 1, DIMS), torch.zeros(1, 1, 2, 2, DIMS)
    with pytest.raises(ValueError, match=r"hold 1 steps, plan\.horizon is 2"):
        plan(PushWorld(), context, past, goals, replace(CONFIG, horizon=2), torch.Generator())


def test_unknown_planners_are_named() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'cem'.*cem, mppi"):
        push(truths(), replace(CONFIG, planner="cme"))


class Space(nn.Module):
    spec = LatentSpec("toy", "reconstruction", (4, 4), 3)


@pytest.fixture
def world_model() -> WorldModel:
    g = torch.Generator().manual_seed(0)
    config = WorldModelConfig(dit=DiTConfig(width=32, depth=1, heads=2, patch=2, max_frames=8))
    model = WorldModel(Space(), end_effector_spec(0.05, 0.25), config, g)
    for parameter in model.dit.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=g)
    return model


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_plans_with_a_world_model_and_chunks_agree(world_model: WorldModel, config: PlanConfig) -> None:
    g = torch.Generator().manual_seed(1)
    context, past = torch.randn(2, 2, 4, 4, 3, generator=g), torch.zeros(2, 1, 7)
    truth = torch.rand(2, 4, 7, generator=g) * 2 - 1
    sampling = SamplingConfig(steps=2)
    noise = torch.randn(2, 4, 4, 4, 3, generator=torch.Generator().manual_seed(5))
    goals = world_model.unroll(world_model.start(context, past), truth, sampling, noise=noise)

    def planned(memory_mb: float) -> PlanResult:
        settings = replace(config, horizon=4, candidates=16, elites=4, sampling=sampling, memory_mb=memory_mb)
        return plan(world_model, context, past, goals, settings, torch.Generator().manual_seed(5))

    whole, parts = planned(512), planned(0.4)
    assert torch.allclose(whole.actions, parts.actions, atol=1e-4)
    assert (whole.cost[:, -1] < whole.cost[:, 0]).all()


def test_candidates_share_the_storage_of_the_context(world_model: WorldModel) -> None:
    context, past = torch.randn(2, 2, 4, 4, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 1, 7)
    state = world_model.start(context, past)
    forked = state.fork(400)
    assert forked.batch == 800
    assert tensors(forked)
    assert tensors(forked) <= tensors(state)


def tensors(part: object) -> set[int]:
    """Addresses of every tensor in a state."""
    if isinstance(part, Tensor):
        return {part.data_ptr()}
    members = part if isinstance(part, tuple | list) else vars(part).values() if hasattr(part, "__dict__") else ()
    return {address for member in members for address in tensors(member)}
