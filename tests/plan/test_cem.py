from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rslwm.config import CEMConfig, DiTConfig, WorldModelConfig
from rslwm.model.world_model import WorldModel
from rslwm.plan.cem import PlanResult, no_signal, plan, search
from rslwm.types import LatentSpec, end_effector_spec

CONFIG = CEMConfig(candidates=64, iterations=6, elites=8, std=0.6, min_std=0.01)


class PushWorld:
    """A world whose every frame is the last one moved by the action: goals tell the actions exactly."""

    action_spec = SimpleNamespace(dims=3)

    def start(self, context: Tensor, actions: Tensor) -> "PushState":
        return PushState(context[:, -1])

    def unroll(self, state: "PushState", actions: Tensor, euler_steps: int, noise: Tensor) -> Tensor:
        moved = state.frame[:, None] + actions.cumsum(1)[:, :, None, None]
        assert moved.shape == noise.shape
        assert noise.unflatten(0, (-1, state.candidates)).var(1, correction=0).max() == 0
        return moved


class PushState:
    def __init__(self, frame: Tensor, candidates: int = 1) -> None:
        self.frame, self.candidates = frame, candidates

    def fork(self, candidates: int) -> "PushState":
        return PushState(self.frame.repeat_interleave(candidates, 0), candidates)


def push(truth: Tensor, config: CEMConfig = CONFIG, seed: int = 0, **kwargs) -> PlanResult:
    goals = truth.cumsum(1)[:, :, None, None].expand(-1, -1, 2, 2, -1)
    context, past = torch.zeros(len(truth), 2, 2, 2, 3), torch.zeros(len(truth), 1, 3)
    config = replace(config, horizon=truth.shape[1])
    return plan(PushWorld(), context, past, goals, config, torch.Generator().manual_seed(seed), 1, **kwargs)


def truths(windows: int = 5, steps: int = 1) -> Tensor:
    return torch.rand(windows, steps, 3, generator=torch.Generator().manual_seed(7)) * 1.8 - 0.9


def quadratic(truth: Tensor):
    return lambda candidates: (candidates - truth[:, None]).square().mean((2, 3))


@pytest.mark.parametrize("steps", [1, 3])
def test_recovers_the_actions_that_reach_the_goals(steps: int) -> None:
    result = push(truths(steps=steps), replace(CONFIG, candidates=512, elites=32, iterations=12))
    assert (result.actions - truths(steps=steps)).abs().max() < 0.05
    assert (result.cost[:, -1] < 0.05 * result.cost[:, 0]).all()


def test_never_leaves_the_bounds_and_finds_an_answer_on_them() -> None:
    evaluated = []

    def far_away(candidates: Tensor) -> Tensor:
        evaluated.append(candidates)
        return (candidates - 5).square().mean((2, 3))

    result = search(far_away, torch.zeros(2, 1, 3), CONFIG, torch.Generator().manual_seed(0))
    assert torch.stack(evaluated).abs().max() <= 1
    assert (result.actions > 0.97).all()


def test_starts_from_zero() -> None:
    first: list[Tensor] = []
    search(
        lambda c: first.append(c) or torch.zeros(c.shape[:2]),
        torch.zeros(50, 1, 3),
        CONFIG,
        torch.Generator().manual_seed(0),
    )
    assert first[0].mean().abs() < 0.02
    assert first[0].std() == pytest.approx(CONFIG.std, abs=0.08)


def test_dimensions_not_searched_keep_their_values() -> None:
    fixed = torch.full((5, 1, 3), 0.25)
    result = push(truths(), searched=(0, 2), fixed=fixed)
    assert (result.actions[..., 1] == 0.25).all()
    assert (result.std[..., 1] == 0).all()
    assert (result.actions - truths())[..., [0, 2]].abs().max() < 0.1


def test_same_generator_same_plan() -> None:
    assert torch.equal(push(truths(), seed=3).actions, push(truths(), seed=3).actions)
    assert not torch.equal(push(truths(), seed=3).actions, push(truths(), seed=4).actions)


def test_without_signal_nothing_is_learned() -> None:
    truth = truths(200)
    g = torch.Generator().manual_seed(0)
    blind = search(no_signal(g), torch.zeros_like(truth), CONFIG, g)
    seeing = search(quadratic(truth), torch.zeros_like(truth), CONFIG, g)
    nothing = truth.norm(dim=-1).mean()
    assert (blind.actions - truth).norm(dim=-1).mean() > nothing
    assert (seeing.actions - truth).norm(dim=-1).mean() < 0.1 * nothing
    assert abs(torch.corrcoef(torch.stack([blind.actions.flatten(), truth.flatten()]))[0, 1]) < 0.15


def test_chunks_do_not_change_the_result() -> None:
    whole = push(truths())
    for rows in (1, 35):
        assert torch.allclose(push(truths(), replace(CONFIG, rows=rows)).actions, whole.actions, atol=1e-6)


def test_impossible_settings_are_named() -> None:
    with pytest.raises(ValueError, match="0 < elites <= candidates"):
        push(truths(), replace(CONFIG, elites=65))
    with pytest.raises(ValueError, match=r"cem\.horizon is 2"):
        plan(PushWorld(), *[torch.zeros(1, 1, 2, 2, 3)] * 3, replace(CONFIG, horizon=2), torch.Generator(), 1)


class Space(nn.Module):
    spec = LatentSpec("toy", "reconstruction", (4, 4), 3)


def test_plans_with_a_world_model_and_chunks_agree() -> None:
    g = torch.Generator().manual_seed(0)
    config = WorldModelConfig(dit=DiTConfig(width=32, depth=1, heads=2, patch=2, max_frames=4))
    model = WorldModel(Space(), end_effector_spec(0.05, 0.25), config, g)
    for parameter in model.dit.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=g)
    context, past = torch.randn(2, 2, 4, 4, 3, generator=g), torch.zeros(2, 1, 7)
    truth = torch.rand(2, 3, 7, generator=g) * 2 - 1
    noise = torch.randn(2, 3, 4, 4, 3, generator=torch.Generator().manual_seed(5))
    goals = model.unroll(model.start(context, past), truth, 2, noise=noise)

    def planned(rows: int) -> PlanResult:
        cem = replace(CONFIG, horizon=3, candidates=16, elites=4, rows=rows)
        return plan(model, context, past, goals, cem, torch.Generator().manual_seed(5), 2)

    whole, parts = planned(512), planned(6)
    assert torch.allclose(whole.actions, parts.actions, atol=1e-4)
    assert (whole.cost[:, -1] < whole.cost[:, 0]).all()
