import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.attention import attend, attend_with_past, causal_bias

B, N, HEADS, D = 2, 3, 2, 8


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def projected(rows: int, frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (draw(rows, N, HEADS, frames, D, seed=seed + i) for i in range(3))
    return q, k, v


@pytest.mark.parametrize("frames", [5, 70])
@pytest.mark.parametrize("grad", [False, True])
def test_every_kernel_is_softmax_attention(frames: int, grad: bool) -> None:
    q, k, v = projected(B, frames)
    with torch.set_grad_enabled(grad):
        ours = attend(q, k, v)
    assert torch.allclose(ours, (q @ k.mT).softmax(-1) @ v, atol=1e-5)


@pytest.mark.parametrize("frames", [5, 70])
def test_a_causal_bias_is_the_fused_kernels_causal_mask(frames: int) -> None:
    q, k, v = projected(B, frames)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
    with torch.no_grad():
        assert torch.allclose(attend(q, k, v, causal_bias(frames, 1, q)), expected, atol=1e-5)


def test_causal_bias_of_frames_of_several_tokens_opens_a_frame_to_itself() -> None:
    bias = causal_bias(3, 2, torch.zeros(()))
    assert bias is not None
    frame = torch.arange(6) // 2
    assert torch.equal(bias == 0, frame[:, None] >= frame)
    assert (bias[frame[:, None] < frame] == -math.inf).all()


def test_a_single_frame_needs_no_bias() -> None:
    assert causal_bias(1, 16, torch.zeros(())) is None


@pytest.mark.parametrize("new", [1, 2])
def test_a_past_in_parts_equals_one_sequence(new: int) -> None:
    """A part of B rows shared by three candidates, a part that two of them share on, and a part of their own."""
    counts, frames = (B, 3 * B, 6 * B), (4, 2, 1)
    parts = [projected(rows, length, seed=10 * rows)[1:] for rows, length in zip(counts, frames, strict=True)]
    q, k, v = projected(6 * B, new)
    bias = causal_bias(new, 1, q)
    ours = attend_with_past(q, k, v, parts, bias)

    whole = [torch.cat([x.repeat_interleave(6 * B // len(x), 0) for x in xs], -2) for xs in zip(*parts, strict=True)]
    keys, values = torch.cat([whole[0], k], -2), torch.cat([whole[1], v], -2)
    later = q.new_zeros(new, sum(frames) + new)
    later[:, sum(frames) :] = 0 if bias is None else bias
    assert torch.allclose(ours, (q @ keys.mT + later).softmax(-1) @ values, atol=1e-5)
