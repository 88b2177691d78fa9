from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rslwm.config import DiTConfig
from rslwm.model.dit import SIZES, DiT
from rslwm.serialisation import ConfigError

TINY = DiTConfig(width=32, depth=2, heads=2, patch=2, max_frames=5)


def inputs(frames: int = 4, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    shape = (batch, frames, 4, 4, 3)
    return torch.randn(shape, generator=g), torch.rand(shape[:2], generator=g), torch.randn(*shape[:2], 7, generator=g)


@pytest.fixture
def dit() -> DiT:
    """With random weights everywhere: the zero ones of the initialisation would hide every mistake."""
    g = torch.Generator().manual_seed(0)
    dit = DiT(TINY, 3, 7, g)
    for parameter in dit.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=g)
    return dit.requires_grad_(False)


def test_velocity_is_zero_at_the_start() -> None:
    assert not DiT(TINY, 3, 7, torch.Generator().manual_seed(0))(*inputs()).any()


def test_initial_weights_follow_from_the_generator_alone() -> None:
    torch.manual_seed(5)
    first = DiT(TINY, 3, 7, torch.Generator().manual_seed(0)).state_dict()
    torch.manual_seed(6)
    second = DiT(TINY, 3, 7, torch.Generator().manual_seed(0)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("what", [0, 1, 2])
def test_a_frame_depends_on_its_past_only(dit: DiT, what: int) -> None:
    before = dit(*inputs())
    changed = list(inputs())
    changed[what][:, 2] += 1
    after = dit(*changed)
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-3
    assert (before[:, 3] - after[:, 3]).abs().max() > 1e-4


def test_frames_in_two_parts_equal_frames_at_once(dit: DiT) -> None:
    x, t, a = inputs(5)
    _, past = dit.extend(x[:, :2], t[:, :2], a[:, :2])
    y, _ = dit.extend(x[:, 2:], t[:, 2:], a[:, 2:], past)
    assert torch.allclose(y, dit(x, t, a)[:, 2:], atol=1e-5)


def test_candidates_share_a_past_in_context_major_order(dit: DiT) -> None:
    x, t, a = inputs(3)
    _, past = dit.extend(x[:, :2], t[:, :2], a[:, :2])
    actions = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(2))
    new = [y[:, 2:].repeat_interleave(3, 0) for y in (x, t)]
    shared, _ = dit.extend(*new, actions.reshape(6, 1, 7), past)
    for k in range(3):
        alone = dit(x, t, torch.cat([a[:, :2], actions[:, k : k + 1]], 1))[:, 2:]
        assert torch.allclose(shared.unflatten(0, (2, 3))[:, k], alone, atol=1e-5)


def test_long_sequences_take_the_fused_kernel_to_the_same_result(dit: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    explicit = dit(*inputs())
    monkeypatch.setattr("rslwm.attention.EXPLICIT_LENGTH", 0)
    assert torch.allclose(explicit, dit(*inputs()), atol=1e-5)


def test_bfloat16_stays_close_to_float32(dit: DiT) -> None:
    exact = dit(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = dit(*inputs())
    assert (rounded - exact).norm() / exact.norm() < 0.03


def test_unusable_shapes_are_named(dit: DiT) -> None:
    x, t, a = inputs(6)
    with pytest.raises(ValueError, match=r"dit\.max_frames = 5"):
        dit(x, t, a)
    with pytest.raises(ValueError, match="patches of 2 x 2"):
        dit(x[:, :1, :3], t[:, :1], a[:, :1])
    with pytest.raises(ConfigError, match="multiple of 4"):
        DiT(DiTConfig(width=30, heads=3), 3, 7)


@pytest.mark.parametrize(
    ("size", "wide_head", "channels", "millions"),
    [
        ("S", 0, 96, 64.4),
        ("S", 2048, 96, 73.5),
        ("S", 2048, 1024, 75.7),
        ("B", 0, 16, 257.1),
        ("B", 2048, 1024, 268.7),
        ("L", 0, 96, 910.1),
        ("L", 2048, 1024, 921.5),
        ("L", 2048, 1152, 921.9),
    ],
)
def test_sizes_have_the_published_parameter_counts(size: str, wide_head: int, channels: int, millions: float) -> None:
    """Paper table 4 and what its architecture implies for S and B, in millions."""
    with torch.device("meta"):
        dit = DiT(replace(SIZES[size], wide_head=wide_head), channels, 10)
    assert sum(p.numel() for p in dit.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
