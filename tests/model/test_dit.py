from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rslwm.model.cache import Cache
from rslwm.model.dit import SIZES, DiT, DiTConfig, forward_flops, size_of
from rslwm.model.layers import Layer
from rslwm.serialisation import ConfigError
from tiny import TINY, draw, same, tiny_dit

FRAMES = 5
VARIANTS: dict[str, dict[str, object]] = {
    "factorised": {},
    "joint": {"temporal": "joint"},
    "wide head": {"wide_head": 48},
    "two views": {"views": 2, "patch": 1},
}


def inputs(frames: int = 4, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return draw(batch, frames, 4, 4, 3), draw(batch, frames, seed=2).sigmoid(), draw(batch, frames, 7, seed=3)


def extend(dit: DiT, x: Tensor, levels: Tensor, actions: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
    return dit.extend(x, dit.conditions(levels, actions), past)


@pytest.fixture(params=VARIANTS)
def dit(request: pytest.FixtureRequest) -> DiT:
    return tiny_dit(max_frames=FRAMES, **VARIANTS[request.param])


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_velocity_is_zero_at_the_start() -> None:
    assert not DiT(TINY, 3, 7, torch.Generator().manual_seed(0))(*inputs()).any()


def test_initial_weights_follow_from_the_generator_alone() -> None:
    torch.manual_seed(5)
    first = DiT(TINY, 3, 7, torch.Generator().manual_seed(0)).state_dict()
    torch.manual_seed(6)
    second = DiT(TINY, 3, 7, torch.Generator().manual_seed(0)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("what", [0, 1, 2], ids=["latents", "levels", "actions"])
def test_a_frame_depends_on_its_past_only(dit: DiT, what: int) -> None:
    before = dit(*inputs())
    changed = list(inputs())
    changed[what][:, 2] += 1
    after = dit(*changed)
    assert same(after[:, :2], before[:, :2], 1e-6)
    assert not same(after[:, 2], before[:, 2], 1e-3)
    assert not same(after[:, 3], before[:, 3], 1e-4)


@pytest.mark.parametrize("split", [1, 2, 4])
def test_frames_in_two_parts_equal_frames_at_once(dit: DiT, split: int) -> None:
    x, t, a = inputs(FRAMES)
    _, past = extend(dit, x[:, :split], t[:, :split], a[:, :split])
    y, _ = extend(dit, x[:, split:], t[:, split:], a[:, split:], past)
    assert same(y, dit(x, t, a)[:, split:])


@pytest.mark.parametrize("first", [7, 400])
def test_where_the_frames_begin_does_not_matter(dit: DiT, first: int) -> None:
    later, keys = extend(dit, *inputs(), Cache((), (), first))
    assert same(later, dit(*inputs()), 1e-4)
    assert (keys.first, keys.end) == (first, first + 4)


def test_candidates_share_a_past_in_context_major_order(dit: DiT) -> None:
    x, t, a = inputs(3)
    _, past = extend(dit, x[:, :2], t[:, :2], a[:, :2])
    actions = draw(2, 3, 7, seed=4)
    new = [y[:, 2:].repeat_interleave(3, 0) for y in (x, t)]
    shared, _ = extend(dit, *new, actions.reshape(6, 1, 7), past)
    for k in range(3):
        alone = dit(x, t, torch.cat([a[:, :2], actions[:, k : k + 1]], 1))[:, 2:]
        assert same(shared.unflatten(0, (2, 3))[:, k], alone)


def test_long_sequences_take_the_fused_kernel_to_the_same_result(dit: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    explicit = dit(*inputs())
    monkeypatch.setattr("rslwm.attention.FUSED_LENGTH", 0)
    assert same(dit(*inputs()), explicit)


def test_bfloat16_stays_close_to_float32(dit: DiT) -> None:
    exact = dit(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = dit(*inputs())
    assert (rounded - exact).norm() / exact.norm() < 0.03


def test_weights_kept_in_bfloat16_give_what_autocast_makes_of_float32_ones(dit: DiT) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rounded_on_the_way = dit(*inputs())
        rounded_before = dit.to(torch.bfloat16)(*inputs())
    assert torch.equal(rounded_on_the_way, rounded_before)


def gradients(dit: DiT) -> dict[str, Tensor]:
    dit.requires_grad_(True).zero_grad()
    with torch.enable_grad():
        dit(*inputs()).square().mean().backward()
    return {name: p.grad.clone() for name, p in dit.named_parameters() if p.grad is not None}


def test_recomputed_activations_give_the_same_gradients(dit: DiT, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, runs = Layer.forward, []
    monkeypatch.setattr(Layer, "forward", lambda *args: runs.append(1) or forward(*args))
    kept = gradients(dit)
    assert len(runs) == TINY.depth
    dit.checkpoint_activations = True
    recomputed = gradients(dit)
    assert len(runs) == 3 * TINY.depth
    assert kept.keys() == recomputed.keys() == dict(dit.named_parameters()).keys()
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)


def test_joint_attention_sees_other_places_of_earlier_frames() -> None:
    """Of a frame whose spatial blocks are switched off, so that nothing moves sideways within it."""
    for temporal, reaches in (("factorised", False), ("joint", True)):
        dit = tiny_dit(temporal=temporal, patch=1)
        for layer in dit.blocks:
            layer.s_block.attn.out_proj.weight.zero_()
        x, t, a = inputs()
        changed = x.clone()
        changed[:, 1, 0, 0] += 1
        moved = (dit(x, t, a) - dit(changed, t, a)).abs().amax((0, -1))
        assert moved[1:, 0, 0].min() > 1e-4
        assert (moved[1:, 1:, 1:].min() > 1e-6) == reaches
        assert not moved[0].any()


def test_weights_move_between_one_view_and_several_and_between_kinds_of_attention() -> None:
    models = [tiny_dit(**changes) for changes in ({}, {"views": 2}, {"temporal": "joint", "max_frames": 9})]
    for model in models:
        for other in models:
            model.load_state_dict(other.state_dict(), strict=True)
            assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_the_order_of_the_views_matters() -> None:
    dit, (x, t, a) = tiny_dit(views=2, patch=1), inputs()
    exchanged = dit(x.roll(2, 3), t, a).roll(-2, 3)
    assert not same(exchanged, dit(x, t, a), 1e-2)


def test_views_are_no_columns() -> None:
    one, two = (tiny_dit(views=views, patch=1)(*inputs()) for views in (1, 2))
    assert not same(one, two, 1e-2)


def test_unusable_shapes_are_named() -> None:
    dit, (x, t, a) = tiny_dit(views=2, patch=1), inputs(5)
    with pytest.raises(ValueError, match=r"0 \+ 5 frames exceed dit\.max_frames = 4"):
        dit(x, t, a)
    _, past = extend(dit, x[:, :3], t[:, :3], a[:, :3])
    with pytest.raises(ValueError, match=r"3 \+ 2 frames"):
        extend(dit, x[:, 3:], t[:, 3:], a[:, 3:], past)
    with pytest.raises(ValueError, match=r"4 x 3 can't be cut into 2 view\(s\)"):
        dit(x[:, :1, :, :3], t[:, :1], a[:, :1])
    with pytest.raises(ValueError, match="patches of 2 x 2"):
        tiny_dit()(x[:, :1, :3], t[:, :1], a[:, :1])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"width": 30, "heads": 3}, "multiple of 4"),
        ({"width": 32, "heads": 3}, "heads of 10.6667"),
        ({"action_inputs": 7}, "at least 8"),
        ({"max_frames": 1}, "max_frames is 1"),
    ],
)
def test_unusable_configurations_are_named(changes: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        tiny_dit(**changes)


def test_flops_are_those_of_the_matrix_products() -> None:
    """Of a tiny transformer, by hand: D 32, 2 layers, 4 tokens of a 4x4 grid in patches of 2, 3 new frames after 2."""
    D, N, T, P, C, A = 32, 4, 3, 2, 3, 7
    hidden = int(2 / 3 * 4 * D)
    block = N * T * (3 * D * D + D * D + 2 * hidden * D + hidden * D) + T * 6 * D * D
    space, time = 2 * T * N * N * D, 2 * N * T * (P + T) * D
    conditions = T * (256 * D + D * D + A * D)
    ends = 2 * N * T * (4 * C) * D + T * 2 * D * D
    dit = tiny_dit(max_frames=FRAMES)
    assert forward_flops(dit, (4, 4), T, P) == 2 * (2 * (2 * block + space + time) + conditions + ends)


def test_flops_of_joint_attention_and_of_the_wide_head_are_counted() -> None:
    plain, joint, wide = (forward_flops(tiny_dit(**VARIANTS[v]), (4, 4), 2) for v in list(VARIANTS)[:3])
    D, N, T, head, patch = 32, 4, 2, 48, 12
    assert joint - plain == 2 * 2 * 2 * ((N * T) ** 2 - N * T**2) * D
    assert wide - plain == 2 * (N * T * D * head + (head - D) * N * T * patch + 2 * T * (head**2 - D**2))


def test_flops_of_the_published_size_are_those_of_its_parameters() -> None:
    """About two a weight outside adaLN and token, and attention on top (protocol: Table 4 counts the same way)."""
    with torch.device("meta"):
        dit = DiT(SIZES["S"], 96, 10)
    weights = sum(p.numel() for name, p in dit.named_parameters() if "adaLN" not in name)
    attention = 12 * (2 * 2 * 256 * 256 * 384 + 2 * 2 * 256 * 1 * 384)
    assert forward_flops(dit, (16, 16)) == pytest.approx(2 * 256 * weights + attention, rel=0.01)


@pytest.mark.parametrize(
    ("size", "wide_head", "channels", "millions"),
    [
        ("S", 0, 96, 64.4),
        ("S", 2048, 96, 73.5),
        ("S", 2048, 1024, 75.7),
        ("B", 0, 16, 257.1),
        ("B", 2048, 1024, 268.7),
        ("L", 0, 16, 910.0),
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


def test_a_size_is_named_by_its_width_and_depth() -> None:
    assert size_of(replace(SIZES["XL"], patch=2)) == "DiT-XL"
    assert size_of(DiTConfig(width=96, depth=3)) == "96x3"
