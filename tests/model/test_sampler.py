"""Rollouts: kept keys and values against the definition, forks, actions that come late."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from published_vectors import published_rollout
from rslwm.attention import causal_bias
from rslwm.model.dit import DiT
from rslwm.model.flow import FlowConfig, FlowMatching
from rslwm.model.published.ddpm import DDPMConfig, VPrediction
from rslwm.model.sampler import FullWindow, Objective, OutgoingSampler, RolloutState, Sampler, SamplingConfig
from rslwm.serialisation import ConfigError
from tiny import draw, same, tiny_dit

WINDOW, STEPS = 4, 3
KEPT, FULL = SamplingConfig(steps=STEPS), SamplingConfig(steps=STEPS, full_window=True)
FLOW = FlowMatching(FlowConfig(context_level=0.01), gamma=2.0)


@pytest.fixture(params=["factorised", "joint"])
def sampler(request: pytest.FixtureRequest) -> Sampler:
    return Sampler(tiny_dit(temporal=request.param), FLOW)


def roll(sampler: Sampler, state: RolloutState, actions: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
    frames = []
    for t in range(noise.shape[1]):
        state, frame = sampler.step(state, actions[:, t], noise[:, t], sampling)
        frames.append(frame)
    return torch.stack(frames, 1)


def begin(sampler: Sampler, frames: Tensor, between: Tensor, sampling: SamplingConfig = KEPT) -> RolloutState:
    state = sampler.start(frames, between)
    return FullWindow.of(state, sampler, frames, between) if sampling.full_window else state


def rollout(
    sampler: Sampler, frames: Tensor, actions: Tensor, noise: Tensor, sampling: SamplingConfig = KEPT
) -> Tensor:
    """Every frame with the action that conditions it, whichever way that is aligned."""
    past, outgoing = frames.shape[1], isinstance(sampler, OutgoingSampler)
    if not outgoing:
        return roll(sampler, begin(sampler, frames, actions[:, 1:past], sampling), actions[:, past:], noise, sampling)
    return published_rollout(sampler.dit, sampler.objective, frames, actions, noise, sampling)


def inputs(context: int, new: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Context frames, everybody's actions, noise of the new frames."""
    return draw(batch, context, 4, 4, 3), draw(batch, context + new, 7, seed=2), draw(batch, new, 4, 4, 3, seed=3)


def denoised(sampler: Sampler, dit: DiT, frames: Tensor, actions: Tensor, x: Tensor) -> Tensor:
    """One frame behind others, all of them through the network at every denoising step."""
    for level, following in pairwise(sampler.objective.levels(STEPS)):
        window = torch.cat([sampler.objective.context(frames), x], 1)
        levels = torch.full(window.shape[:2], sampler.objective.context_level)
        levels[:, -1] = level
        velocity = sampler.objective.velocity(x, dit(window, levels, actions)[:, -1:], level)
        x = sampler.objective.move(x, velocity, level, following)
    return torch.cat([frames, x], 1)


def recomputed(sampler: Sampler, context: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    """The definition of a full window: its frames have seen nothing but each other."""
    frames = context
    for f in range(noise.shape[1]):
        used = actions[:, : frames.shape[1] + 1][:, -WINDOW:].clone()
        if not isinstance(sampler, OutgoingSampler):
            used[:, 0] = 0
        seen = denoised(sampler, sampler.dit, frames[:, 1 - WINDOW :], used, noise[:, f : f + 1])
        frames = torch.cat([frames, seen[:, -1:]], 1)
    return frames[:, context.shape[1] :]


def remembered(
    sampler: Sampler, context: Tensor, actions: Tensor, noise: Tensor, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """The definition of a kept one: no frame is forgotten, but each sees those before it that were in its own window.

    The last of these has a new frame behind it; context frames were computed one place further back.
    """

    def band(frames: int, tokens: int, like: Tensor) -> Tensor:
        bias = torch.zeros(()) if frames == 1 else causal_bias(frames, tokens, like)
        frame = torch.arange(frames * tokens) // tokens
        sees = torch.where(frame == frames - 1, WINDOW, WINDOW - 1)
        return bias + torch.zeros(len(frame), len(frame)).masked_fill_(
            frame[:, None] - frame >= sees[:, None], -torch.inf
        )

    long = DiT(replace(sampler.dit.config, max_frames=99), 3, 7)
    long.load_state_dict(sampler.dit.state_dict())
    long.requires_grad_(False)
    past = min(context.shape[1], WINDOW - 1)
    frames, actions = context[:, -past:], actions[:, context.shape[1] - past :].clone()
    if not isinstance(sampler, OutgoingSampler):
        actions[:, 0] = 0
    with monkeypatch.context() as patch:
        patch.setattr("rslwm.model.layers.causal_bias", band)
        for f in range(noise.shape[1]):
            frames = denoised(sampler, long, frames, actions[:, : frames.shape[1] + 1], noise[:, f : f + 1])
    return frames[:, past:]


DATA = replace(FLOW, config=replace(FLOW.config, prediction="data"))
OBJECTIVES = {"flow": FLOW, "data": DATA, "ddpm": VPrediction(DDPMConfig())}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("kind", [Sampler, OutgoingSampler])
@pytest.mark.parametrize("context", [1, 2, 3, 6])
def test_full_window_equals_recomputation_before_and_after_the_slide(
    sampler: Sampler, context: int, kind: type[Sampler], objective: Objective
) -> None:
    sampler = kind(sampler.dit, objective)
    clip = inputs(context, 5)
    assert same(rollout(sampler, *clip, FULL), recomputed(sampler, *clip))


@pytest.mark.parametrize("kind", [Sampler, OutgoingSampler])
@pytest.mark.parametrize("context", [1, 2, 3, 6])
def test_kept_keys_equal_recomputation_until_the_slide(sampler: Sampler, context: int, kind: type[Sampler]) -> None:
    sampler = kind(sampler.dit, sampler.objective)
    clip = inputs(context, 5)
    kept, full = rollout(sampler, *clip), recomputed(sampler, *clip)
    until = WINDOW - min(context, WINDOW - 1)
    assert same(kept[:, :until], full[:, :until])
    assert not same(kept[:, until], full[:, until], 1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("context", [1, 2, 6])
def test_kept_keys_are_those_that_frames_had_in_their_own_window(
    sampler: Sampler, context: int, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over three windows, in which positions grow to where the transformer has no frames."""
    sampler = Sampler(sampler.dit, objective)
    clip = inputs(context, 3 * WINDOW, batch=1)
    ours = rollout(sampler, *clip)
    assert ours.isfinite().all()
    assert same(ours, remembered(sampler, *clip, monkeypatch), 1e-4)


@pytest.mark.parametrize("sampling", [KEPT, FULL], ids=["kept", "full"])
def test_a_window_of_two_frames(sampler: Sampler, sampling: SamplingConfig) -> None:
    """One frame of context, which has nothing before it: kept or recomputed, it's the same."""
    sampler = OutgoingSampler(tiny_dit(max_frames=2, temporal=sampler.dit.config.temporal), FLOW)
    context, actions, noise = inputs(1, 4)
    frames = context
    for f in range(4):
        used = actions[:, f : f + 2]
        frames = torch.cat(
            [frames, denoised(sampler, sampler.dit, frames[:, -1:], used, noise[:, f : f + 1])[:, 1:]], 1
        )
    assert same(rollout(sampler, context, actions, noise, sampling), frames[:, 1:])


def passes(sampler: Sampler, sampling: SamplingConfig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames of each pass through the transformer in a rollout of four frames from two."""
    seen: list[int] = []
    extend = sampler.dit.extend
    monkeypatch.setattr(sampler.dit, "extend", lambda x, *rest: seen.append(x.shape[1]) or extend(x, *rest))
    rollout(sampler, *inputs(2, 4, batch=1), sampling)
    return seen


def test_context_is_computed_once_a_frame(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    first, others = [1] * STEPS, [2, *[1] * (STEPS - 1)]
    seen = passes(sampler, KEPT, monkeypatch)
    assert seen == [2, *first, *others, *others, *others]
    assert sum(seen) == 2 + 4 * STEPS + 4 - 1


def test_a_full_window_is_computed_once_a_frame_and_only_once_it_slides(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    slid = [WINDOW, *[1] * (STEPS - 1)]
    assert passes(sampler, FULL, monkeypatch) == [2, *[1] * STEPS, 2, *[1] * (STEPS - 1), *slid, *slid]


def test_conditions_in_groups_equal_conditions_one_by_one(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = replace(sampler, null_action=torch.ones(7))
    calls: list[Tensor] = []
    conditions = sampler.dit.conditions
    monkeypatch.setattr(sampler.dit, "conditions", lambda t, a: calls.append(t) or conditions(t, a))
    for sampling in (KEPT, replace(KEPT, method="heun"), replace(KEPT, guidance=2.0), FULL):
        together, grouped = rollout(sampler, *inputs(2, 4), sampling), len(calls)
        with monkeypatch.context() as patch:
            patch.setattr("rslwm.model.sampler.CONDITIONED_ROWS", 1)
            one_by_one = rollout(sampler, *inputs(2, 4), sampling)
        assert same(one_by_one, together)
        assert len(calls) - grouped > 2 * grouped
        calls.clear()


@pytest.mark.parametrize("sampling", [KEPT, FULL], ids=["kept", "full"])
def test_forked_candidates_equal_separate_rollouts(sampler: Sampler, sampling: SamplingConfig) -> None:
    context, past = draw(2, 2, 4, 4, 3), draw(2, 1, 7, seed=2)
    actions, noise = draw(2, 3, 4, 7, seed=3), draw(2, 3, 4, 4, 4, 3, seed=4)
    state = begin(sampler, context, past, sampling)
    forked = roll(sampler, state.fork(3), actions.flatten(0, 1), noise.flatten(0, 1), sampling).unflatten(0, (2, 3))
    for k in range(3):
        assert same(forked[:, k], roll(sampler, state, actions[:, k], noise[:, k], sampling))


def test_forking_copies_nothing(sampler: Sampler) -> None:
    state = sampler.start(draw(2, 2, 4, 4, 3), draw(2, 1, 7))
    forked = state.fork(5).fork(2)
    assert forked.cache is state.cache
    assert forked.latents is state.latents
    assert forked.batch == 20


@pytest.mark.parametrize("steps_before", [1, 3])
def test_forking_in_mid_rollout_and_once_more(sampler: Sampler, steps_before: int) -> None:
    state = sampler.start(draw(2, 2, 4, 4, 3), draw(2, 1, 7))
    for seed in range(steps_before):
        state, _ = sampler.step(state, draw(2, 7, seed=seed), draw(2, 4, 4, 3, seed=seed), KEPT)
    actions, noise = draw(2, 3, 2, 2, 7, seed=5), draw(2, 3, 2, 2, 4, 4, 3, seed=6)
    forked = state.fork(3)
    forked, first = sampler.step(forked, actions[:, :, 0, 0].flatten(0, 1), noise[:, :, 0, 0].flatten(0, 1), KEPT)
    _, second = sampler.step(forked.fork(2), actions[:, :, :, 1].flatten(0, 2), noise[:, :, :, 1].flatten(0, 2), KEPT)
    for k in range(3):
        alone, frame = sampler.step(state, actions[:, k, 0, 0], noise[:, k, 0, 0], KEPT)
        assert same(first.unflatten(0, (2, 3))[:, k], frame)
        for j in range(2):
            _, frame = sampler.step(alone, actions[:, k, j, 1], noise[:, k, j, 1], KEPT)
            assert same(second.unflatten(0, (2, 3, 2))[:, k, j], frame)


def test_a_continued_rollout_of_full_windows_equals_a_restarted_one(sampler: Sampler) -> None:
    context, actions, noise = inputs(3, 3)
    continued = rollout(sampler, context, actions, noise, FULL)
    last = torch.cat([context[:, 2:], continued[:, :2]], 1)
    _, frame = sampler.step(sampler.start(last, actions[:, 3:5]), actions[:, 5], noise[:, 2], FULL)
    assert same(frame, continued[:, 2])


def test_batch_does_not_matter(sampler: Sampler) -> None:
    clip = inputs(2, 4, batch=3)
    alone = torch.cat([rollout(sampler, *(x[i : i + 1] for x in clip)) for i in range(3)])
    assert same(rollout(sampler, *clip), alone)


def test_weights_kept_in_bfloat16_roll_out_alike_with_and_without_autocast() -> None:
    sampler, clip = Sampler(tiny_dit(), FLOW), inputs(2, 4)
    exact = rollout(sampler, *clip)
    sampler.dit.to(torch.bfloat16)
    alone = rollout(sampler, *clip)
    with torch.autocast("cpu", torch.bfloat16):
        inside = rollout(sampler, *clip)
    assert torch.equal(alone, inside)
    assert alone.dtype == torch.float32
    assert (alone - exact).norm() / exact.norm() < 0.05


def test_a_state_can_be_stepped_again(sampler: Sampler) -> None:
    state = sampler.start(draw(1, 3, 4, 4, 3), draw(1, 2, 7))
    state, _ = sampler.step(state, draw(1, 7, seed=3), draw(1, 4, 4, 3, seed=4), KEPT)
    action, noise = draw(1, 7, seed=5), draw(1, 4, 4, 3, seed=6)
    assert torch.equal(sampler.step(state, action, noise, KEPT)[1], sampler.step(state, action, noise, KEPT)[1])


def test_a_state_counts_what_the_next_frame_sees(sampler: Sampler) -> None:
    state, seen = sampler.start(draw(1, 1, 4, 4, 3), draw(1, 0, 7)), []
    for _ in range(4):
        seen.append(state.latents.shape[1] + state.cache.frames)
        state, _ = sampler.step(state, draw(1, 7), draw(1, 4, 4, 3), KEPT)
    assert seen == [1, 2, 3, 3]


def test_wrong_number_of_rows_is_named(sampler: Sampler) -> None:
    state = sampler.start(draw(2, 2, 4, 4, 3), draw(2, 1, 7)).fork(3)
    with pytest.raises(ValueError, match="2 contexts of 3 candidates"):
        sampler.step(state, draw(3, 7), draw(6, 4, 4, 3), KEPT)


@pytest.mark.parametrize(
    ("sampling", "objective", "named"),
    [
        (SamplingConfig(steps=0), FLOW, r"sampling\.steps is 0"),
        (SamplingConfig(method="heun"), OBJECTIVES["ddpm"], "DDIM"),
        (SamplingConfig(guidance=2.0), FLOW, "without action_dropout"),
    ],
)
def test_what_the_model_can_not_do_is_refused(
    sampler: Sampler, sampling: SamplingConfig, objective: Objective, named: str
) -> None:
    sampler = Sampler(sampler.dit, objective)
    state = sampler.start(draw(1, 2, 4, 4, 3), draw(1, 1, 7))
    with pytest.raises(ConfigError, match=named):
        sampler.step(state, draw(1, 7), draw(1, 4, 4, 3), sampling)
