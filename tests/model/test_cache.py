"""What new frames look back to: shared between candidates, never copied for them."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rslwm.model.cache import Cache, first_frames
from rslwm.model.flow import FlowConfig, FlowMatching
from rslwm.model.sampler import RolloutState, Sampler, SamplingConfig
from tiny import draw, tiny_dit

LAYERS = 2


def cache(rows: int, frames: int, first: int = 0, tokens: int = 1, seed: int = 1) -> Cache:
    keys = draw(LAYERS, 2, rows, 3, 2, frames * tokens, 4, seed=seed)
    return Cache((tuple((k, v) for k, v in keys),), (frames,), first)


def keys(cache: Cache, layer: int = 0) -> list[Tensor]:
    return [k for k, _ in cache.layer(layer)]


def address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def test_frames_of_as_many_rows_are_joined() -> None:
    old, new = cache(2, 3, first=5), cache(2, 1, first=8, seed=2)
    joined = old.append(new)
    assert (joined.lengths, joined.first, joined.end) == ((4,), 5, 9)
    for layer in range(LAYERS):
        ((k, v),) = joined.layer(layer)
        assert torch.equal(k, torch.cat([old.layer(layer)[0][0], new.layer(layer)[0][0]], -2))
        assert torch.equal(v, torch.cat([old.layer(layer)[0][1], new.layer(layer)[0][1]], -2))


def test_frames_of_more_rows_become_a_part_of_their_own_and_what_is_shared_stays() -> None:
    context = cache(2, 3)
    forked = context.append(cache(6, 1)).append(cache(6, 1))
    assert (forked.lengths, forked.frames) == ((3, 2), 5)
    assert forked.parts[0] is context.parts[0]
    assert [len(k) for k in keys(forked)] == [2, 6]


@pytest.mark.parametrize("tokens", [1, 4])
def test_the_tail_drops_the_oldest_frames_and_copies_nothing(tokens: int) -> None:
    both = cache(2, 3, tokens=tokens).append(cache(6, 2, tokens=tokens))
    for frames, lengths in ((5, (3, 2)), (4, (2, 2)), (2, (2,)), (1, (1,)), (0, ())):
        tail = both.tail(frames)
        assert (tail.lengths, tail.frames, tail.end) == (lengths, frames, both.end)
        for part, full in zip(reversed(keys(tail)), reversed(keys(both)), strict=False):
            assert torch.equal(part, full[..., full.shape[-2] - part.shape[-2] :, :])
            assert address(part) == address(full)


def test_the_tail_of_a_short_cache_is_all_of_it() -> None:
    short = cache(2, 3, first=4)
    assert (short.tail(9).frames, short.tail(9).first) == (3, 4)


@pytest.mark.parametrize("tokens", [1, 4])
def test_first_frames_have_memory_of_their_own(tokens: int) -> None:
    whole = cache(2, 3, tokens=tokens).parts[0][0]
    kept, _ = first_frames(whole, 2, 3)
    assert torch.equal(kept, whole[0][..., : 2 * tokens, :])
    assert kept.untyped_storage().nbytes() < whole[0].untyped_storage().nbytes()


CANDIDATES, CONTEXT = 8, 15


def rolled(temporal: str, steps: int) -> tuple[RolloutState, RolloutState, int]:
    """A state, what became of its candidates, and the elements of the largest tensor made on the way."""
    dit = tiny_dit(max_frames=20, temporal=temporal)
    sampler = Sampler(dit, FlowMatching(FlowConfig()))
    state = sampler.start(draw(1, CONTEXT, 4, 4, 3), draw(1, CONTEXT - 1, 7))
    forked, largest = state.fork(CANDIDATES), _Largest()
    with largest:
        for _ in range(steps):
            action, noise = draw(CANDIDATES, 7), draw(CANDIDATES, 4, 4, 3)
            forked, _ = sampler.step(forked, action, noise, SamplingConfig(steps=2))
    return state, forked, largest.elements


class _Largest(TorchDispatchMode):
    """Elements of the largest storage behind any result inside."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


@pytest.mark.parametrize("temporal", ["factorised", "joint"])
def test_candidates_never_get_a_context_of_their_own(temporal: str) -> None:
    state, forked, largest = rolled(temporal, steps=4)
    assert forked.cache.lengths == (CONTEXT, 3)
    context = keys(state.cache)[0]
    assert address(keys(forked.cache)[0]) == address(context)
    assert len(keys(forked.cache)[0]) == 1
    assert largest < CANDIDATES * context.numel()
