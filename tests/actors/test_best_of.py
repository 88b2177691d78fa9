"""A policy that imagines before it acts, and the forks that imagining takes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rslwm.actors.base import Actor, Observation
from rslwm.actors.behaviour_cloning import BehaviourCloning
from rslwm.actors.best_of import BestOf, BestOfConfig, judged
from rslwm.actors.blind import Random
from rslwm.actors.expert import Demonstrators, Expert
from rslwm.actors.perceiving_expert import PerceivingExpert
from rslwm.actors.policy import Policy
from rslwm.actors.sight import SightConfig
from rslwm.compute import generator, seeded
from rslwm.envs.base import play
from rslwm.envs.imagined import Imagined
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.envs.trials import succeeded
from rslwm.model.sampler import SamplingConfig
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore
from rslwm.types import DataError
from tiny import draw, tiny_world_model

BLIND = SimConfig(cameras=())
SAID = ("push the red cube to the blue square", "open the drawer")


class Clumsy(Expert):
    """An expert whose hand is always drawn to one side."""

    def act(self, observation: Observation) -> Tensor:
        action = super().act(observation)
        action[:, :2] += torch.tensor([0.2, -0.2])
        return action.clamp(-1, 1)


class Level(Actor):
    """The same action again and again, which it remembers of every place."""

    def __init__(self, level: Tensor) -> None:
        self.level = level

    def act(self, observation: Observation) -> Tensor:
        return self.level

    def fork(self, futures: int) -> "Level":
        return Level(self.level.repeat_interleave(futures, 0))


def time_done(seen: Sequence[Observation]) -> Tensor:
    return torch.cat([one.success for one in seen if one.success is not None], 1).float().sum(1)


@pytest.mark.slow
def test_where_what_is_imagined_is_true_a_policy_gets_better() -> None:
    table, imagined = (SimulatedTabletop(BLIND, frame_skip=2) for _ in range(2))
    several = table.starts("drawer", 8)
    starts = tuple(several[i] for i in (0, 3, 6))  # of the eight, the two where the clumsy hand fails, and another
    plain = Clumsy(table.spec)
    thinking = BestOf(plain, imagined, time_done, BestOfConfig(horizon=20, execute=20, persistence=0.95))
    assert succeeded(plain, table, starts).tolist() == [True, False, False]
    assert succeeded(thinking, table, starts).all()


def test_what_no_candidate_betters_is_done_as_the_policy_wants() -> None:
    table, imagined = (SimulatedTabletop(BLIND, frame_skip=2) for _ in range(2))
    starts, config = table.starts("push", 2), BestOfConfig(candidates=2, horizon=2)
    plain = play(Clumsy(table.spec), table, starts, 3).seen.actions
    for score in (lambda seen: torch.zeros(4), lambda seen: torch.full((4,), torch.nan)):
        assert torch.equal(
            play(BestOf(Clumsy(table.spec), imagined, score, config), table, starts, 3).seen.actions, plain
        )
    other = BestOf(Clumsy(table.spec), imagined, lambda seen: torch.tensor([0, 1, 1, 0]), config)
    seen = play(other, table, starts, 3).seen.actions
    assert not torch.equal(seen[0], plain[0])
    assert torch.equal(seen[1], plain[1])


def test_what_is_imagined_is_what_the_best_then_does(plugin: Path) -> None:
    """In a world model, whose frames are shown to the judge: the same noise of the model leads to the same frames."""
    model = tiny_world_model(plugin)
    model.decode = lambda latents: latents.repeat_interleave(8, 2).repeat_interleave(8, 3).sigmoid()  # type: ignore[method-assign]
    world = Imagined(model, SamplingConfig(1), torch.Generator().manual_seed(0), decode=True)
    asked: list[np.ndarray] = []

    def judge(frames: np.ndarray, instructions: tuple[str, ...]) -> list[int]:
        asked.append(frames)
        assert instructions == tuple(words for words in SAID for _ in range(3))
        return [0, 0, 1, 0, 1, 0]

    start = Observation(draw(2, 1, 7), frames=draw(2, 2, 32, 32, 3).sigmoid(), instructions=SAID)
    config = BestOfConfig(candidates=3, horizon=4, execute=2, history=3)
    actor = BestOf(Level(torch.zeros(2, 7)), world, judged(judge), config, begin=world.after)
    actor.start(start)
    first = actor.act(start)
    assert asked[0].shape == (6, 2 + 4, 32, 32, 3)
    assert asked[0].dtype == np.uint8
    shown = model.decode(model.encode(start.frames))
    assert np.array_equal(asked[0][:, :2], (shown * 255).round().byte().repeat_interleave(3, 0).numpy())
    for _ in range(2):
        actor.act(Observation(first[:, None], frames=draw(2, 1, 32, 32, 3).sigmoid(), instructions=SAID))
    assert len(asked) == 2  # it thinks again after two actions
    assert asked[1].shape == (6, 3 + 4, 32, 32, 3)  # and remembers three frames

    best = model.rollout(
        model.encode(start.frames)[:1],
        torch.cat([start.actions[:1], actor_noise(config)[None, 2]], 1),
        SamplingConfig(1),
        all_noise(6, 4)[2:3],
    )
    assert np.abs(asked[0][2, 2:] - (model.decode(best)[0] * 255).round().numpy()).max() <= 1
    assert torch.equal(first[0], actor_noise(config)[2, 0].clamp(-1, 1))


def actor_noise(config: BestOfConfig) -> Tensor:
    """Of the candidates of the first of two places, written down anew."""
    fresh = torch.randn((2, config.candidates, config.horizon, 7), generator=generator(config.seed, "best of"))[0]
    noise, keep = [fresh[:, 0]], config.persistence
    for step in range(1, config.horizon):
        noise.append(keep * noise[-1] + (1 - keep**2) ** 0.5 * fresh[:, step])
    return (config.noise * torch.stack(noise, 1)).clamp(-1, 1)


def all_noise(places: int, steps: int) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.stack([torch.randn(places, 4, 4, 3, generator=g) for _ in range(steps)], 1)


def remembered(policy: Policy) -> Tensor:
    """(B, n)"""
    return torch.cat([torch.as_tensor(getattr(policy, name)).flatten(1).double() for name in policy.memory], 1)


@pytest.mark.parametrize("kind", [BehaviourCloning, PerceivingExpert])
def test_forks_of_a_policy_remember_what_it_does(kind: type[Policy]) -> None:
    with seeded(0, "weights"):
        policy = kind(SightConfig("points", 16, 2))
    policy.network.eval().requires_grad_(False)
    frames = torch.rand(4, 2, 1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    seen = [
        Observation(torch.zeros(2, int(i > 0), 7), frames=frame, instructions=SAID) for i, frame in enumerate(frames)
    ]
    policy.start(seen[0])
    policy.act(seen[0])
    policy.act(seen[1])
    forked = policy.fork(2)
    twice = [replace(one, frames=one.frames.repeat_interleave(2, 0)) for one in seen]
    first = forked.act(twice[2])
    own, known = policy.act(seen[2]), remembered(policy)
    assert torch.allclose(first, own.repeat_interleave(2, 0), atol=1e-5)
    assert torch.allclose(remembered(forked), known.repeat_interleave(2, 0), atol=1e-5)
    forked.act(twice[0])  # goes on by itself
    after = policy.act(seen[3])
    policy.start(seen[0])
    again = [policy.act(one) for one in seen]
    assert torch.equal(again[2], own)
    assert torch.equal(again[3], after)
    policy.start(seen[2])
    alone = policy.act(seen[2])
    assert not torch.allclose(torch.cat([alone, remembered(policy)], 1), torch.cat([own, known], 1), atol=1e-4)


def test_forks_of_a_demonstrator_tremble_as_it_does() -> None:
    config = replace(BLIND, noise=(0.3,))
    table = SimulatedTabletop(config)
    actor, start = Demonstrators(table.spec, config), tuple(restore(config, episode) for episode in range(2))
    state = play(actor, table, start, 3).seen.state
    forked, there = actor.fork(2), table.reset(table.fork(state, 2))
    assert torch.equal(forked.act(there), actor.act(table.reset(state)).repeat_interleave(2, 0))


def test_what_cant_be_done_is_said() -> None:
    table = SimulatedTabletop(BLIND, frame_skip=2)
    start = table.starts("push", 1)
    with pytest.raises(NotImplementedError, match=r"Random can't be forked; give it a fork\(futures\)"):
        play(BestOf(Random(), table, time_done), table, start, 1)
    for wrong in ({"candidates": 0}, {"execute": 9}, {"execute": 0}, {"persistence": 1.5}):
        with pytest.raises(ConfigError, match=r"best_of: .* choose"):
            BestOf(Expert(table.spec), table, time_done, BestOfConfig(**wrong))
    other = SimulatedTabletop(BLIND)
    with pytest.raises(DataError, match="the world and the policy differ in 'hz'"):
        BestOf(Expert(table.spec), other, time_done)
    config = BestOfConfig(2, 1)
    with pytest.raises(DataError, match=r"score: \(3,\) for 2 continuations"):
        play(BestOf(Expert(table.spec), table, lambda seen: torch.zeros(3), config), table, start, 1)
    with pytest.raises(DataError, match="a judge looks at frames, and the world shows none"):
        play(BestOf(Expert(table.spec), table, judged(lambda *_: [0, 0]), config), table, start, 1)
