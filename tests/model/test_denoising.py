"""Steps from noise to data: order of Euler and Heun on a known field, guidance by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rslwm.model.cache import EMPTY, Cache
from rslwm.model.dit import Conditions, DiT, DiTConfig
from rslwm.model.flow import FlowConfig, FlowMatching
from rslwm.model.sampler import FullWindow, RolloutState, Sampler, SamplingConfig
from tiny import draw, same, tiny_dit

MEAN, SPREAD = 0.7, 0.3


class GaussianWorld(DiT):
    """The exact velocity when all data come from one normal distribution; its flow takes noise e to MEAN + SPREAD e."""

    def __init__(self) -> None:
        super().__init__(DiTConfig(max_frames=2), 3, 7)
        self.evaluations = 0

    def conditions(self, levels: Tensor, actions: Tensor) -> Conditions:
        return Conditions(levels, levels, ())

    def extend(
        self, x: Tensor, conditions: Conditions, past: Cache = EMPTY, keep: int | None = None
    ) -> tuple[Tensor, Cache]:
        self.evaluations += 1
        t = conditions.level[..., None, None, None]
        slope = (t - (1 - t) * SPREAD**2) / ((1 - t) ** 2 * SPREAD**2 + t**2)
        nothing = x.new_zeros(len(x), 1, 1, x.shape[1], 1)
        return slope * (x - (1 - t) * MEAN) - MEAN, Cache((((nothing, nothing),),), (x.shape[1],))


def error(sampling: SamplingConfig, gamma: float = 2.0) -> float:
    sampler = Sampler(GaussianWorld(), FlowMatching(FlowConfig(), gamma))
    noise = draw(64, 1, 1, 3)
    state = sampler.start(torch.zeros(64, 1, 1, 1, 3), torch.zeros(64, 0, 7))
    _, frame = sampler.step(state, torch.zeros(64, 7), noise, sampling)
    return float((frame - (MEAN + SPREAD * noise)).abs().max())


@pytest.mark.parametrize(("method", "factor"), [("euler", 2), ("heun", 4)])
def test_the_error_of_twice_the_steps_is_a_half_with_euler_and_a_quarter_with_heun(method: str, factor: int) -> None:
    errors = [error(SamplingConfig(steps=steps, method=method)) for steps in (32, 64, 128)]  # type: ignore[arg-type]
    ratios = [errors[0] / errors[1], errors[1] / errors[2]]
    assert ratios == pytest.approx([factor, factor], rel=0.1)


def test_heun_evaluates_twice_a_step_but_the_last() -> None:
    world = GaussianWorld()
    sampler = Sampler(world, FlowMatching(FlowConfig()))
    state = sampler.start(torch.zeros(1, 1, 1, 1, 3), torch.zeros(1, 0, 7))
    before = world.evaluations
    sampler.step(state, torch.zeros(1, 7), draw(1, 1, 1, 3), SamplingConfig(steps=5, method="heun"))
    assert world.evaluations - before == 2 * 5 - 1


# -------------------------------------------------------------------------------------------------------- guidance

NULL = torch.tensor([0.0] * 6 + [1.0])
ONE = SamplingConfig(steps=1)


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(tiny_dit(), FlowMatching(FlowConfig(context_level=0.01), 2.0), NULL)


def begin(sampler: Sampler, context: Tensor, between: Tensor, full_window: bool) -> RolloutState:
    state = sampler.start(context, between)
    return FullWindow.of(state, sampler, context, between) if full_window else state


def velocity(sampler: Sampler, frames: Tensor, actions: Tensor, level: float = 1.0) -> Tensor:
    actions = torch.cat([torch.zeros_like(actions[:, :1]), actions[:, 1:]], 1)
    levels = torch.full(frames.shape[:2], 0.01)
    levels[:, -1] = level
    return sampler.dit(frames, levels, actions)[:, -1]


@pytest.mark.parametrize("full_window", [False, True])
def test_guidance_of_one_is_none(sampler: Sampler, full_window: bool) -> None:
    context, actions, noise = draw(2, 2, 4, 4, 3), draw(2, 3, 7, seed=2), draw(2, 4, 4, 3, seed=3)
    sampling = SamplingConfig(steps=3, guidance=1.0, full_window=full_window)
    frames = []
    for null in (NULL, None):
        guided = replace(sampler, null_action=null)
        state = begin(guided, context, actions[:, 1:2], full_window)
        frames.append(guided.step(state, actions[:, 2], noise, sampling)[1])
    assert torch.equal(*frames)


@pytest.mark.parametrize("guidance", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("candidates", [1, 3])
def test_guidance_exaggerates_what_the_action_changes(sampler: Sampler, guidance: float, candidates: int) -> None:
    context, past = draw(2, 2, 4, 4, 3), draw(2, 2, 7, seed=2)
    action, noise = draw(2 * candidates, 7, seed=3), draw(2 * candidates, 4, 4, 3, seed=4)
    state = sampler.start(context, past[:, 1:]).fork(candidates)
    _, frame = sampler.step(state, action, noise, replace(ONE, guidance=guidance))

    frames = torch.cat([context.repeat_interleave(candidates, 0), noise[:, None]], 1)
    past = past.repeat_interleave(candidates, 0)
    known, null = (
        velocity(sampler, frames, torch.cat([past, last[:, None]], 1)) for last in (action, NULL.expand_as(action))
    )
    assert same(frame, noise - (null + guidance * (known - null)))


@pytest.mark.parametrize("full_window", [False, True])
def test_what_guidance_imagined_without_the_action_is_not_remembered(sampler: Sampler, full_window: bool) -> None:
    """The frames after a guided one see it with its own action."""
    context, actions, noise = draw(2, 2, 4, 4, 3), draw(2, 4, 7, seed=2), draw(2, 2, 4, 4, 3, seed=3)
    state = begin(sampler, context, actions[:, 1:2], full_window)
    state, guided = sampler.step(state, actions[:, 2], noise[:, 0], replace(ONE, guidance=3.0, full_window=full_window))
    _, frame = sampler.step(state, actions[:, 3], noise[:, 1], replace(ONE, full_window=full_window))
    frames = torch.cat([context, guided[:, None], noise[:, 1:]], 1)
    assert same(frame, noise[:, 1] - velocity(sampler, frames, actions))
