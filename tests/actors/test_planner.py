"""A planner as an actor: plans from what it sees, does a part of the plan, and plans again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.planner import Planner, PlannerConfig
from rslwm.envs.base import Environment, play
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.plan.base import PlanConfig, plan
from rslwm.serialisation import ConfigError
from rslwm.types import ActionSpec
from tiny import draw, tiny_world_model

SEARCH = PlanConfig(horizon=3, candidates=16, iterations=2, elites=4)


def g(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(plugin: Path) -> WorldModel:
    return tiny_world_model(plugin)


@pytest.fixture
def seen() -> Observation:
    return Observation(draw(2, 2, 7, seed=2).clamp(-1, 1), draw(2, 3, 4, 4, 3))


GOALS = draw(2, 3, 4, 4, 3, seed=5)


@pytest.mark.parametrize("searched", [None, (0, 1, 2)])
def test_one_act_is_one_plan_to_the_last_bit(model: WorldModel, seen: Observation, searched: tuple | None) -> None:
    given = draw(2, 3, 7, seed=6)
    planner = Planner(model, GOALS, PlannerConfig(SEARCH), g(), given, searched)
    planner.start(seen)
    action = planner.act(seen)
    expected = plan(model, seen.latents, seen.actions, GOALS, SEARCH, g(), searched, given)
    assert torch.equal(action, expected.actions[:, 0])
    for name in ("actions", "cost", "std"):
        assert torch.equal(getattr(planner.found, name), getattr(expected, name))


def test_a_part_of_the_plan_is_done_before_the_next_is_made(model: WorldModel, seen: Observation) -> None:
    planner = Planner(model, GOALS, PlannerConfig(SEARCH, execute=2), g())
    world = Imagined(model, SamplingConfig(1), g(1))
    start = Imagination(seen.latents, seen.actions)
    played = play(planner, world, start, 3)
    drawn = g()
    first = plan(model, seen.latents, seen.actions, GOALS, SEARCH, drawn)
    assert torch.equal(played.seen.actions[:, :2], first.actions[:, :2])
    latents = torch.cat([seen.latents, played.seen.latents], 1)[:, 2:5]  # the window's frames but the one to come
    actions = torch.cat([seen.actions, played.seen.actions], 1)[:, 2:4]
    second = plan(model, latents, actions, GOALS[:, [2, 2, 2]], SEARCH, drawn)  # the last goal, from then on
    assert torch.equal(played.seen.actions[:, 2], second.actions[:, 0])
    assert torch.equal(planner.following(), second.actions[:, 1])


def test_an_episode_starts_afresh(model: WorldModel, seen: Observation) -> None:
    planner = Planner(model, GOALS, PlannerConfig(SEARCH, execute=3), g())
    planner.start(seen)
    planner.act(seen)
    planner.start(seen)
    planner.generator = g(9)
    again = planner.act(seen)
    assert torch.equal(again, plan(model, seen.latents, seen.actions, GOALS, SEARCH, g(9)).actions[:, 0])


class Line(Environment[Tensor]):
    """Cells that every action pushes about, shown as a picture of patches and in nothing else."""

    def __init__(self, spec: ActionSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ActionSpec:
        return self._spec

    def reset(self, state: Tensor) -> Observation:
        self.state = state
        frames = state[:, None, None, None].expand(-1, 1, 32, 32, -1)
        return Observation(state.new_zeros(len(state), 0, 7), frames=frames, state=state)

    def step(self, actions: Tensor, following: Tensor | None = None) -> Observation:
        return replace(self.reset(self.state + 0.1 * actions[:, :3]), actions=actions[:, None])

    def fork(self, state: Tensor, candidates: int) -> Tensor:
        return state.repeat_interleave(candidates, 0)


def test_a_plan_closes_the_loop_over_frames(model: WorldModel) -> None:
    """A planner that knows the world moves it where it is told to, and stays there."""

    class Known(type(model)):
        def unroll(self, state, actions, sampling, noise):  # type: ignore[no-untyped-def]
            assert state.latents.shape[2:] == (4, 4, 3)
            moved = now[0].repeat_interleave(len(actions) // 2, 0)[:, None] + 0.1 * actions[..., :3].cumsum(1)
            return moved[:, :, None, None].expand(-1, -1, 4, 4, -1)

        def encode(self, frames, clips=0):  # type: ignore[no-untyped-def]
            now[0] = frames[:, -1, 0, 0]
            return frames[:, :, ::8, ::8]

    now: list[Tensor] = [torch.zeros(2, 3)]
    model.__class__ = Known
    wanted = torch.tensor([[0.3, 0.6, 0.5], [0.8, 0.2, 0.5]])
    goals = wanted[:, None, None, None].expand(-1, 1, 4, 4, -1)
    config = PlannerConfig(PlanConfig(candidates=64, iterations=4, elites=8))
    played = play(Planner(model, goals, config, g()), Line(model.action_spec), torch.full((2, 3), 0.5), 8)
    assert (played.seen.state - wanted).abs().max() < 0.02
    assert (played.seen.frames[:, 1, 0, 0] - wanted).abs().max() > 0.05  # it had a way to go


@pytest.mark.parametrize("execute", [0, 4])
def test_impossible_settings_are_named(model: WorldModel, execute: int) -> None:
    with pytest.raises(ConfigError, match=rf"execute is {execute}; choose 1 to plan.horizon \(3\)"):
        Planner(model, GOALS, PlannerConfig(SEARCH, execute), g())


def test_it_is_an_actor_by_name() -> None:
    from rslwm.actors.base import ACTORS

    assert {"recorded", "planner", "expert", "demonstrator", "random"} <= {*ACTORS}
    assert ACTORS.get("planner") is Planner
    assert issubclass(Planner, Actor)
