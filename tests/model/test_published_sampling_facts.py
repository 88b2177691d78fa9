"""Every fact about the published samplers is pinned by the golden rollouts: changing one of them breaks one.

But for one: of ten DDIM steps no index needs cutting to an integer.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import published
from mutations import Mutation, change, objective, rebuilt
from published import SAMPLING, Golden, load, relative_error, rollout_error
from rslwm.model import dit
from rslwm.model.ddpm import VPrediction
from rslwm.model.flow import FlowMatching
from rslwm.model.sampler import Sampler, SamplingConfig
from tiny import draw

TOLERANCE = 3e-6
"""Tighter than what a rollout needs: the norms behind it take DDIM's scaling of the context back,
almost: leaving it out changes 4e-5."""


def shifted_by(gamma: float) -> Mutation:
    def mutate(golden: Golden, patch: pytest.MonkeyPatch) -> None:
        assert isinstance(golden.objective, FlowMatching)
        golden.objective = replace(golden.objective, gamma=gamma)

    return mutate


def inputs(name: str, to: Callable[[Tensor], Tensor]) -> Mutation:
    """Other noise, (6, B, 1, h, w, C), or actions, (B, 8, A), for the same rollout."""
    return lambda golden, patch: golden.tensors.update({name: to(golden.tensors[name])})


def levels(of: type, to: Callable[[list[float]], list[float]], more: int = 0) -> Mutation:
    return change(of, "levels", lambda original: lambda self, steps: to(original(self, steps + more)))


def context(of: type, to: Callable[[Tensor], Tensor]) -> Mutation:
    return change(of, "context", lambda original: lambda self, latents: to(original(self, latents)))


def noisy(share: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + share * draw(*x.shape)


def scaled_embedding(factor: float) -> Mutation:
    return change(dit, "sinusoidal_embedding", lambda embed: lambda t, channels: embed(factor * t, channels))


def noise_prediction(original: Any) -> Any:
    """DDIM of a transformer that predicts the noise."""

    def move(self: VPrediction, x: Tensor, output: Tensor, level: float, following: float) -> Tensor:
        signal, scale = self._amounts(level)
        later_signal, later_scale = self._amounts(following)
        return later_signal * (x - scale * output) / signal + later_scale * output

    return move


def never_clean(original: Any) -> Any:
    return lambda self, level: original(self, max(level, 0.0))


def blank_first(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(published, "Sampler", partial(Sampler, blank_first=True))


COMMON: dict[str, Mutation] = {
    "one draw of noise a frame": inputs("rollout_noise", lambda noise: noise[:1].expand_as(noise)),
    "noise in the frames' order": inputs("rollout_noise", lambda noise: noise.flip(0)),
    "a frame's own action": inputs("rollout_actions", lambda actions: actions.roll(1, 1)),
    "at most max_frames": rebuilt(max_frames=7),
    "at least max_frames": rebuilt(max_frames=5),
    "the window's first frame keeps its action": blank_first,
}
FLOW: dict[str, Mutation] = {
    "context level 0.01": objective(context_level=0.0),
    "context without noise": context(FlowMatching, noisy(0.01)),
    "shift of 2": shifted_by(1.9),
    "shift towards noise": shifted_by(1 / 2),
    "from pure noise": levels(FlowMatching, lambda t: t[1:], more=1),
    "to clean data": levels(FlowMatching, lambda t: t[:-1], more=1),
    "velocity is noise minus data": change(
        FlowMatching, "move", lambda move: lambda self, x, output, *levels: move(self, x, -output, *levels)
    ),
    "1000 t": scaled_embedding(0.999),
}
DDIM: dict[str, Mutation] = {
    "velocity, not noise": change(VPrediction, "move", noise_prediction),
    "velocity is noise minus data": change(
        VPrediction, "move", lambda move: lambda self, x, output, *levels: move(self, x, -output, *levels)
    ),
    "schedule starts at -3": objective(schedule_start=-2.9),
    "schedule ends at 3": objective(schedule_end=2.9),
    "schedule's tau is 1": objective(schedule_tau=1.1),
    "1000 steps": objective(timesteps=999),
    "from index 999": levels(VPrediction, lambda t: [0.998, *t[1:]]),
    "to index -1": levels(VPrediction, lambda t: [*t[:-1], 0.0]),
    "index -1 is clean": change(VPrediction, "_amounts", never_clean),
    "indices a hundred apart": levels(VPrediction, lambda t: [t[0], *(x + 0.001 for x in t[1:-1]), t[-1]]),
    "indices unscaled": scaled_embedding(0.999),
    "context at index 14": objective(context_step=15),
    "context scaled": change(VPrediction, "context", lambda _: lambda self, latents: latents),
    "context without noise": context(VPrediction, noisy(0.01)),
}
FACTS = {
    f"{name} {fact}": (name, mutate)
    for name, facts in (
        ("dit_wide_p1", COMMON | FLOW),
        ("ddim_plain_p2", COMMON | DDIM),
    )
    for fact, mutate in facts.items()
}


@pytest.mark.parametrize("name", ["dit_wide_p1", "ddim_plain_p2"])
def test_all_facts_together_give_the_published_rollout(name: str) -> None:
    assert rollout_error(load(name)) < TOLERANCE


@pytest.mark.parametrize(("name", "mutate"), FACTS.values(), ids=FACTS)
def test_changing_a_fact_changes_the_rollout(name: str, mutate: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load(name)
    mutate(golden, monkeypatch)
    assert rollout_error(golden) > 10 * TOLERANCE


@pytest.mark.parametrize(
    "sampling",
    [replace(SAMPLING, steps=9), replace(SAMPLING, method="heun"), replace(SAMPLING, full_window=False)],
    ids=["ten steps", "euler", "whole window recomputed"],
)
def test_changing_how_frames_are_sampled_changes_the_rollout(sampling: SamplingConfig) -> None:
    assert rollout_error(load("dit_wide_p1"), sampling) > 10 * TOLERANCE


@torch.no_grad()
def test_frames_made_together_are_not_the_published_ones() -> None:
    """Four frames that fit the window, all at the level of noise: the first doesn't see the others, they see it."""
    golden = load("dit_wide_p1")
    past, noise = golden.tensors["rollout_context"], golden.tensors["rollout_noise"]
    x, actions = noise[:4].squeeze(2).transpose(0, 1), golden.tensors["rollout_actions"][:, :6]
    assert golden.objective is not None
    for level, following in pairwise(golden.objective.levels(10)):
        declared = torch.tensor([golden.objective.context_level] * 2 + [level] * 4).expand(len(x), -1)
        output = golden.dit(torch.cat([past, x], 1), declared, actions)[:, 2:]
        x = golden.objective.move(x, output, level, following)
    first, *others = (relative_error(x[:, t], golden.tensors["rollout"][:, 2 + t]) for t in range(4))
    assert first < TOLERANCE
    assert min(others) > 10 * TOLERANCE
