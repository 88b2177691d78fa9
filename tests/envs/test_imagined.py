"""What a world model imagines as an environment is what it rolls out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.blind import Random, Recorded
from rslwm.envs.base import live, play
from rslwm.envs.imagined import Imagination, Imagined, imagine
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from tiny import TINY, draw, tiny_world_model

CONTEXT, FUTURE = 2, 5  # of the window's four frames: it slides
NULL = replace(TINY, action_inputs=8)
KINDS = {
    "flow": ({}, SamplingConfig(steps=2)),
    "heun": ({}, SamplingConfig(steps=2, method="heun")),
    "full window": ({}, SamplingConfig(steps=2, full_window=True)),
    "guidance": ({"dit": NULL, "action_dropout": 0.1}, SamplingConfig(steps=2, guidance=2.0)),
    "ddpm": ({"objective": "ddpm"}, SamplingConfig(steps=2)),
    "outgoing": ({"alignment": "outgoing"}, SamplingConfig(steps=2)),
    "outgoing, full window": ({"alignment": "outgoing"}, SamplingConfig(steps=2, full_window=True)),
}


def g(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(plugin: Path) -> WorldModel:
    return tiny_world_model(plugin)


@pytest.fixture
def start() -> Imagination:
    return Imagination(draw(3, CONTEXT, 4, 4, 3), draw(3, CONTEXT - 1, 7, seed=2))


@pytest.fixture
def actions() -> Tensor:
    return draw(3, FUTURE, 7, seed=4)


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_actions_lead_to_the_rollout_to_the_last_bit(
    kind: str, plugin: Path, start: Imagination, actions: Tensor
) -> None:
    changes, sampling = KINDS[kind]
    model = tiny_world_model(plugin, **changes)
    every = torch.cat([start.actions, actions], 1)
    expected = model.rollout(start.latents, every, sampling, g())
    assert torch.equal(imagine(model, start.latents, every, sampling, g()), expected)


def test_a_step_that_is_settled_late_is_sampled_without_it(plugin: Path, start: Imagination, actions: Tensor) -> None:
    """An actor that decides as it goes can't say what it will do next, and an outgoing model has to do without."""

    class Late(Recorded):
        def following(self) -> None:
            return None

    model = tiny_world_model(plugin, alignment="outgoing")
    early, late = (
        play(kind(actions), Imagined(model, SamplingConfig(2), g(), FUTURE), start, FUTURE).seen.latents
        for kind in (Recorded, Late)
    )
    assert not torch.equal(early, late)


def test_from_a_state_the_same_noise_leads_to_the_same_future(
    model: WorldModel, start: Imagination, actions: Tensor
) -> None:
    world = Imagined(model, SamplingConfig(2), g())
    half = play(Recorded(actions), world, start, 2).seen.state
    first, again, other = (
        play(Recorded(actions[:, 2:]), Imagined(model, SamplingConfig(2), g(seed)), half, 3).seen.latents
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_forks_share_the_context_and_go_their_own_ways(model: WorldModel, start: Imagination) -> None:
    world = Imagined(model, SamplingConfig(2), g())
    forked = world.fork(world.reset(start).state, 2)
    assert len(forked.rollout.latents) == 3
    actions = draw(6, 3, 7, seed=5)
    seen = play(Recorded(actions), Imagined(model, SamplingConfig(2), g(), 3), forked, 3).seen
    noise = torch.randn((6, 3, 4, 4, 3), generator=g())
    for k in range(2):
        every = torch.cat([start.actions, actions[k::2]], 1)
        alone = model.rollout(start.latents, every, SamplingConfig(2), noise=noise[k::2])
        assert torch.allclose(seen.latents[k::2], alone, atol=1e-5)


def test_frames_are_shown_where_they_are_asked_for(model: WorldModel, start: Imagination, actions: Tensor) -> None:
    model.decode = lambda latents: latents.repeat_interleave(8, 2).repeat_interleave(8, 3)  # type: ignore[method-assign]
    world = Imagined(model, SamplingConfig(2), g(), decode=True)
    played = play(Recorded(actions), world, start, FUTURE)
    assert torch.equal(played.start.frames, model.decode(start.latents))
    assert torch.equal(played.seen.frames, model.decode(played.seen.latents))


def test_an_actor_sees_what_its_actions_did(model: WorldModel, start: Imagination) -> None:
    class Shy(Actor):
        """Does the opposite of what it sees."""

        def act(self, observation: Observation) -> Tensor:
            assert observation.latents is not None
            return -observation.latents[:, -1].mean((1, 2, 3))[:, None].expand(-1, 7).clamp(-1, 1)

    played = play(Shy(), Imagined(model, SamplingConfig(2), g()), start, 3)
    shown = torch.cat([start.latents[:, -1:], played.seen.latents[:, :-1]], 1)
    expected = -shown.mean((2, 3, 4))[..., None].expand(-1, -1, 7).clamp(-1, 1)
    assert torch.equal(played.seen.actions, expected)


def test_a_play_is_interrupted_and_goes_on(model: WorldModel, start: Imagination, actions: Tensor) -> None:
    class Stopped(Recorded):
        def act(self, observation: Observation) -> Tensor:
            if self._played == 2 and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt
            return super().act(observation)

    stopped: list[bool] = []
    world, seen = Imagined(model, SamplingConfig(2), g()), []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(live(Stopped(actions), world, start))
    rest = play(Recorded(actions[:, 2:]), world, seen[-1].state, 3).seen.latents
    whole = play(Recorded(actions), Imagined(model, SamplingConfig(2), g()), start, 5).seen.latents
    assert torch.equal(torch.cat([*(one.latents for one in seen[1:]), rest], 1), whole)


def test_random_actions_are_inside_the_bounds_and_those_of_their_seed(model: WorldModel, start: Imagination) -> None:
    first, again, other = (
        play(actor, Imagined(model, SamplingConfig(1), g()), start, 8).seen.actions
        for actor in (Random(1), Random(1), Random(2))
    )
    assert first.shape == (3, 8, 7)
    assert first.abs().max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
