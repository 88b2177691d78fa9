from itertools import pairwise

import pytest
import torch
from torch import Tensor

from rslwm.config import DiTConfig
from rslwm.model.dit import DiT
from rslwm.model.flow import shift
from rslwm.model.sampler import Sampler

WINDOW, STEPS = 4, 3


@pytest.fixture
def sampler() -> Sampler:
    g = torch.Generator().manual_seed(0)
    dit = DiT(DiTConfig(width=32, depth=2, heads=2, patch=2, max_frames=WINDOW), 3, 7, g)
    for parameter in dit.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=g)
    return Sampler(dit.requires_grad_(False), gamma=2.0, context_level=0.01)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def recomputed(sampler: Sampler, context: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
    """The definition: the whole window through the network at every denoising step."""
    frames = context
    grid = shift(torch.linspace(1, 0, STEPS + 1), sampler.gamma).tolist()
    for f in range(noise.shape[1]):
        x = noise[:, f : f + 1]
        for level, following in pairwise(grid):
            window = torch.cat([frames, x], 1)[:, -WINDOW:]
            levels = torch.full(window.shape[:2], sampler.context_level)
            levels[:, -1] = level
            used = actions[:, : frames.shape[1] + 1][:, -WINDOW:].clone()
            if sampler.blank_first:
                used[:, 0] = 0
            x = x + (following - level) * sampler.dit(window, levels, used)[:, -1:]
        frames = torch.cat([frames, x], 1)
    return frames[:, context.shape[1] :]


@pytest.mark.parametrize("blank_first", [False, True])
@pytest.mark.parametrize("context", [1, 2, 3, 6])
def test_cached_rollout_equals_recomputation_before_and_after_the_slide(
    sampler: Sampler, context: int, blank_first: bool
) -> None:
    sampler = Sampler(sampler.dit, sampler.gamma, sampler.context_level, blank_first)
    frames, actions, noise = draw(2, context, 4, 4, 3), draw(2, context + 5, 7, seed=2), draw(2, 5, 4, 4, 3, seed=3)
    cached = sampler.rollout(sampler.start(frames, actions[:, :context]), actions[:, context:], noise, STEPS)
    assert torch.allclose(cached, recomputed(sampler, frames, actions, noise), atol=1e-5)


def test_context_is_computed_once_a_frame(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    extend = sampler.dit.extend
    monkeypatch.setattr(sampler.dit, "extend", lambda x, *rest: seen.append(x.shape[1]) or extend(x, *rest))
    state = sampler.start(draw(1, 2, 4, 4, 3), draw(1, 2, 7))
    sampler.rollout(state, draw(1, 4, 7), draw(1, 4, 4, 4, 3), STEPS)
    once_full = [WINDOW - 1, *[1] * STEPS]
    assert seen == [2, *[1] * STEPS, 1, *[1] * STEPS, *once_full, *once_full]


def test_forked_candidates_equal_separate_rollouts(sampler: Sampler) -> None:
    context, past = draw(2, 2, 4, 4, 3), draw(2, 2, 7, seed=2)
    actions, noise = draw(2, 3, 4, 7, seed=3), draw(2, 3, 4, 4, 4, 3, seed=4)
    state = sampler.start(context, past)
    forked = sampler.rollout(state.fork(3), actions.flatten(0, 1), noise.flatten(0, 1), STEPS).unflatten(0, (2, 3))
    for k in range(3):
        assert torch.allclose(forked[:, k], sampler.rollout(state, actions[:, k], noise[:, k], STEPS), atol=1e-5)


def test_forking_copies_nothing(sampler: Sampler) -> None:
    state = sampler.start(draw(2, 2, 4, 4, 3), draw(2, 2, 7))
    forked = state.fork(5).fork(2)
    assert forked.cache is state.cache
    assert forked.latents is state.latents
    assert forked.batch == 20


def test_forking_in_mid_rollout(sampler: Sampler) -> None:
    state = sampler.start(draw(2, 2, 4, 4, 3), draw(2, 2, 7))
    state, _ = sampler.step(state, draw(2, 7, seed=3), draw(2, 4, 4, 3, seed=4), STEPS)
    action, noise = draw(6, 7, seed=5), draw(6, 4, 4, 3, seed=6)
    _, forked = sampler.step(state.fork(3), action, noise, STEPS)
    for k in range(3):
        _, alone = sampler.step(state, action[k::3], noise[k::3], STEPS)
        assert torch.allclose(forked[k::3], alone, atol=1e-5)


def test_batch_does_not_matter(sampler: Sampler) -> None:
    context, actions, noise = draw(3, 2, 4, 4, 3), draw(3, 6, 7, seed=2), draw(3, 4, 4, 4, 3, seed=3)

    def roll(rows: slice) -> Tensor:
        state = sampler.start(context[rows], actions[rows, :2])
        return sampler.rollout(state, actions[rows, 2:], noise[rows], STEPS)

    assert torch.allclose(roll(slice(None)), torch.cat([roll(slice(i, i + 1)) for i in range(3)]), atol=1e-5)


def test_a_state_can_be_stepped_again(sampler: Sampler) -> None:
    state = sampler.start(draw(1, 3, 4, 4, 3), draw(1, 3, 7))
    action, noise = draw(1, 7, seed=3), draw(1, 4, 4, 3, seed=4)
    assert torch.equal(sampler.step(state, action, noise, STEPS)[1], sampler.step(state, action, noise, STEPS)[1])


def test_blank_first_makes_a_continued_rollout_equal_a_restarted_one(sampler: Sampler) -> None:
    sampler = Sampler(sampler.dit, sampler.gamma, sampler.context_level, blank_first=True)
    context, actions, noise = draw(1, 3, 4, 4, 3), draw(1, 6, 7, seed=2), draw(1, 3, 4, 4, 3, seed=3)
    continued = sampler.rollout(sampler.start(context, actions[:, :3]), actions[:, 3:], noise, STEPS)
    last = torch.cat([context[:, 2:], continued[:, :2]], 1)
    _, frame = sampler.step(sampler.start(last, actions[:, 2:5]), actions[:, 5], noise[:, 2], STEPS)
    assert torch.allclose(frame, continued[:, 2], atol=1e-5)


def test_wrong_number_of_rows_is_named(sampler: Sampler) -> None:
    state = sampler.start(draw(2, 2, 4, 4, 3), draw(2, 2, 7)).fork(3)
    with pytest.raises(ValueError, match="2 contexts of 3 candidates"):
        sampler.step(state, draw(3, 7), draw(6, 4, 4, 3), STEPS)


def test_a_frame_without_a_step_is_refused(sampler: Sampler) -> None:
    state = sampler.start(draw(1, 2, 4, 4, 3), draw(1, 2, 7))
    with pytest.raises(ValueError, match="euler_steps is 0"):
        sampler.step(state, draw(1, 7), draw(1, 4, 4, 3), 0)
