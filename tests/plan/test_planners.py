"""What every planner promises."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from push_world import CONFIGS, PushWorld, push, truths
from rslwm.plan.base import PLANNERS, PlanConfig, PlanResult, no_signal
from rslwm.serialisation import ConfigError

pytestmark = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def search(evaluate, fixed: Tensor, config: PlanConfig, seed: int = 0) -> PlanResult:
    return PLANNERS.get(config.planner)(evaluate, fixed, config, torch.Generator().manual_seed(seed), None)


@pytest.mark.parametrize(("steps", "tolerance"), [(1, 0.002), (4, 0.08)])
def test_recovers_the_actions_that_reach_the_goals(config: PlanConfig, steps: int, tolerance: float) -> None:
    result = push(truths(steps=steps), replace(config, candidates=1024, elites=64, iterations=24))
    assert (result.actions - truths(steps=steps)).abs().mean() < tolerance
    assert (result.cost[:, -1] < 0.05 * result.cost[:, 0]).all()


def test_never_leaves_the_bounds_and_finds_an_answer_on_them(config: PlanConfig) -> None:
    evaluated = []

    def far_away(candidates: Tensor) -> Tensor:
        evaluated.append(candidates)
        return (candidates - 5).square().mean((2, 3))

    result = search(far_away, torch.zeros(2, 1, 3), config)
    assert torch.stack(evaluated).abs().max() <= 1
    assert result.actions.abs().max() <= 1
    assert (result.actions > 0.97).all()


def test_starts_from_zero(config: PlanConfig) -> None:
    first: list[Tensor] = []

    def flat(candidates: Tensor) -> Tensor:
        first.append(candidates)
        return torch.zeros(candidates.shape[:2])

    search(flat, torch.zeros(50, 1, 3), config)
    assert first[0].mean().abs() < 0.02
    assert first[0].std() == pytest.approx(config.std, abs=0.08)


def test_dimensions_not_searched_keep_their_values(config: PlanConfig) -> None:
    fixed = torch.full((5, 1, 3), 0.3)
    result = push(truths(), config, searched=(0, 2), fixed=fixed)
    assert (result.actions[..., 1] == fixed[..., 1]).all()
    assert (result.std[..., 1] == 0).all()
    assert (result.actions - truths())[..., [0, 2]].abs().max() < 0.1


def test_same_generator_same_plan(config: PlanConfig) -> None:
    assert torch.equal(push(truths(), config, seed=3).actions, push(truths(), config, seed=3).actions)
    assert not torch.equal(push(truths(), config, seed=3).actions, push(truths(), config, seed=4).actions)


def test_without_signal_nothing_is_learned(config: PlanConfig) -> None:
    truth = truths(200)
    blind = search(no_signal(torch.Generator().manual_seed(1)), torch.zeros_like(truth), config)
    seeing = search(lambda c: (c - truth[:, None]).square().mean((2, 3)), torch.zeros_like(truth), config)
    nothing = truth.norm(dim=-1).mean()
    assert (blind.actions - truth).norm(dim=-1).mean() > nothing
    assert (seeing.actions - truth).norm(dim=-1).mean() < 0.1 * nothing
    assert abs(torch.corrcoef(torch.stack([blind.actions.flatten(), truth.flatten()]))[0, 1]) < 0.15


def test_the_spread_never_falls_below_its_floor(config: PlanConfig) -> None:
    result = push(truths(), replace(config, iterations=30, min_std=0.07))
    assert result.std.min() == pytest.approx(0.07)


@pytest.mark.parametrize("field", ["iterations", "candidates"])
def test_impossible_settings_are_named(config: PlanConfig, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"plan\.{field} is 0"):
        push(truths(), replace(config, **{field: 0}))


def test_starts_where_it_is_told_and_stands_still_otherwise(config: PlanConfig) -> None:
    """One candidate of next to no spread is where the search begins."""
    at_once = replace(config, candidates=1, iterations=1, elites=1, std=1e-6, min_std=0.0)
    world = PushWorld()
    world.action_spec = replace(world.action_spec, low=(-0.5, -1.0, -1.0), mode=("delta", "velocity", "absolute"))
    expected = torch.tensor([-1 / 3, 0.0, 0.0])  # of 0 between -0.5 and 1; the action before was 0
    assert (push(truths(), at_once, world=world).actions - expected).abs().max() < 1e-4
    start = torch.full((5, 1, 3), 0.4)
    assert (push(truths(), at_once, world=world, start=start).actions - start).abs().max() < 1e-4
