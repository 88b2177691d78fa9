"""A world that says where it is no longer to be believed."""

from itertools import takewhile

import pytest
import torch
from torch import Tensor

from point_world import AstrayWorldModel, PointWorldModel, ReadAction
from rslwm.actors.base import Observation
from rslwm.actors.blind import Recorded
from rslwm.envs.base import live, play
from rslwm.envs.imagined import Imagination, Imagined
from rslwm.envs.trusted import Trusted, Watched, disagreement
from rslwm.model.sampler import SamplingConfig

STEPS = 4


def trusted(model: PointWorldModel, limit: float = 0.1) -> Trusted:
    return Trusted(Imagined(model, SamplingConfig(1), torch.Generator().manual_seed(0)), ReadAction(), limit)


@pytest.fixture
def start() -> Imagination:
    """Two places, of which the second one will go astray."""
    x = torch.tensor([-9.0, 9.0])[:, None, None, None, None]
    return Imagination(torch.zeros(2, 2, 4, 4, 4) + x, torch.zeros(2, 1, 4))


@pytest.fixture
def actions() -> Tensor:
    return torch.rand((2, STEPS, 4), generator=torch.Generator().manual_seed(0))


def test_places_that_go_astray_are_marked_and_others_aren_t(start: Imagination, actions: Tensor) -> None:
    played = play(Recorded(actions), trusted(AstrayWorldModel()), start, STEPS)
    assert isinstance(played.seen, Watched)
    assert played.start.trusted.all()
    assert played.seen.trusted.tolist() == [[True] * STEPS, [False] * STEPS]
    # 0.5 too much in one of four dimensions, at every step
    assert torch.allclose(played.seen.disagreement, torch.tensor([[0.0], [0.25]]).expand(-1, STEPS), atol=1e-5)


def test_the_world_itself_is_unchanged(start: Imagination, actions: Tensor) -> None:
    world = trusted(AstrayWorldModel())
    watched, plain = (play(Recorded(actions), one, start, STEPS).seen for one in (world, world.world))
    assert torch.equal(watched.latents, plain.latents)
    assert torch.equal(watched.actions, plain.actions)
    assert world.spec == world.world.spec


def test_trust_that_was_lost_doesn_t_come_back(start: Imagination, actions: Tensor) -> None:
    """What is far off once is so afterwards, whatever the mean falls to."""

    class Once(PointWorldModel):
        def step(self, state, action, sampling, noise, following):  # type: ignore[no-untyped-def]
            first, self.gone_by = not hasattr(self, "gone_by"), True
            return super().step(state, action + 0.5 * first, sampling, noise, following)

    seen = play(Recorded(actions), trusted(Once(), limit=0.3), start, STEPS).seen
    assert seen.disagreement[0, -1] == pytest.approx(0.5 / STEPS, rel=1e-4)
    assert not seen.trusted.any()


def test_it_stops_when_nothing_is_trusted_any_more(start: Imagination, actions: Tensor) -> None:
    lost = Imagination(start.latents[1:], start.actions[1:])
    observations = live(Recorded(actions[1:]), trusted(AstrayWorldModel(), limit=0.2), lost)
    assert len([*takewhile(lambda seen: seen.trusted.any(), observations)]) == 1


def test_it_goes_on_from_any_of_its_states(start: Imagination, actions: Tensor) -> None:
    world = trusted(AstrayWorldModel())
    whole = play(Recorded(actions), world, start, STEPS).seen
    half = play(Recorded(actions[:, :2]), world, start, 2).seen
    rest = play(Recorded(actions[:, 2:]), world, half.state, 2)
    assert torch.equal(rest.start.disagreement, half.disagreement[:, -1:])
    assert torch.allclose(rest.seen.disagreement, whole.disagreement[:, 2:])
    assert torch.equal(rest.seen.trusted, whole.trusted[:, 2:])


def test_forks_inherit_what_was_lost(start: Imagination, actions: Tensor) -> None:
    world = trusted(AstrayWorldModel())
    forked = world.reset(world.fork(play(Recorded(actions), world, start, 1).seen.state, 3))
    assert forked.trusted[:, 0].tolist() == [True] * 3 + [False] * 3
    assert len(world.step(actions[:, 0].repeat_interleave(3, 0)).disagreement) == 6


def test_a_world_without_latents_can_t_be_trusted(start: Imagination) -> None:
    class Blind(Imagined):
        def reset(self, state):  # type: ignore[no-untyped-def]
            return Observation(torch.zeros(2, 0, 4))

    world = Trusted(Blind(PointWorldModel(), SamplingConfig(1), torch.Generator()), ReadAction(), 0.1)
    with pytest.raises(AssertionError, match="by the latents that it shows"):
        world.reset(start)


def test_disagreement_doesn_t_grow_with_dimensions() -> None:
    assert disagreement(torch.ones(2, 7), torch.zeros(2, 7)).tolist() == [1, 1]
