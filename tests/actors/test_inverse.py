"""An actor that reads the next action from what it sees and from the goal."""

import torch
from torch import Tensor

from point_world import Place, PointEnvironment, PointWorldModel, ReadGoal
from rslwm.actors.base import ACTORS, Observation
from rslwm.actors.inverse import InverseDynamics
from rslwm.envs.base import Environment, play

WANTED = torch.tensor([[0.3, -0.2, 0.1], [-0.9, 0.4, 0.0]])


def latents(positions: Tensor) -> Tensor:
    return torch.cat([positions, torch.zeros(len(positions), 1)], 1)[:, None, None].expand(-1, 4, 4, -1).contiguous()


def places() -> tuple[Place, ...]:
    return tuple(Place(z, False) for z in latents(torch.zeros(2, 3)))


def position(seen: Observation) -> Tensor:
    assert seen.latents is not None
    return seen.latents[:, :, 0, 0, :3]


def test_it_goes_where_the_goal_is_as_fast_as_the_probe_says() -> None:
    actor = InverseDynamics(PointWorldModel(), latents(WANTED)[:, None], ReadGoal(0.25))
    world: Environment = PointEnvironment()
    found = position(play(actor, world, places(), 5).seen)
    steps = torch.arange(1, 6)[None, :, None]
    expected = torch.minimum(0.25 * steps, WANTED.abs()[:, None]) * WANTED.sign()[:, None]
    assert torch.allclose(found, expected, atol=1e-5)


def test_it_encodes_what_is_only_shown() -> None:
    world, model = PointEnvironment(), PointWorldModel()
    actor = InverseDynamics(model, latents(WANTED)[:, None], ReadGoal())
    seen = world.reset(places())
    shown = Observation(seen.actions, frames=seen.frames)
    assert torch.allclose(actor.act(shown)[:, :3], WANTED, atol=1e-4)


def test_no_action_leaves_the_bounds() -> None:
    actor = InverseDynamics(PointWorldModel(), latents(WANTED)[:, None], lambda pair: torch.full((2, 4), 3.0))
    assert torch.equal(actor.act(PointEnvironment().reset(places())), torch.ones(2, 4))


def test_it_is_an_actor_by_name() -> None:
    assert ACTORS.get("inverse") is InverseDynamics
