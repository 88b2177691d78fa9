import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.model.layers import rms_norm, sinusoidal_embedding
from tiny import draw, same


def normalised(function: object, dtype: torch.dtype, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of some tokens, and what its gradient of a random weighting is."""
    x = (3 * draw(2, 5, 4, 32) + 1).to(dtype).requires_grad_(True)
    y = function(x, eps)
    (y * draw(2, 5, 4, 32, seed=2).to(dtype)).sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("eps", [1e-6, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_the_norm_and_its_gradient_are_torchs(dtype: torch.dtype, tolerance: float, eps: float) -> None:
    ours = normalised(rms_norm, dtype, eps)
    exact = normalised(lambda x, eps: F.rms_norm(x, x.shape[-1:], eps=eps), torch.float32, eps)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.dtype == dtype
        assert same(mine.float(), theirs, tolerance)


def test_the_norm_is_the_same_with_and_without_gradients() -> None:
    x = draw(2, 5, 32)
    assert same(rms_norm(x.requires_grad_(True)).detach(), rms_norm(x.detach()), 1e-6)


def test_levels_are_embedded_by_cosines_and_sines_of_a_thousand_times_the_level() -> None:
    embedding = sinusoidal_embedding(torch.tensor([0.0, 0.002]), 4)
    expected = [torch.cos(torch.tensor(2.0)), torch.cos(torch.tensor(0.02)), torch.sin(torch.tensor(2.0)), 0.019998667]
    assert embedding[0].tolist() == [1, 1, 0, 0]
    assert embedding[1].tolist() == pytest.approx([float(x) for x in expected])
