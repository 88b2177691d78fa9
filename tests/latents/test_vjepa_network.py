"""V-JEPA 2.1's transformer: equal to a library's V-JEPA 2 but for the documented facts, and those one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.latents.published.vjepa_network import AXIS, HEAD, VJEPA, VJEPAConfig, grid_rotation, rotate
from tiny_checkpoints.vjepa import layout, random

TINY = VJEPAConfig(width=128, depth=4, mlp=96)
VERSION_2 = replace(TINY, images=False, modality=False, interleaved=False, interpolated=False, level_norms=False)
FACTS = ("images", "modality", "interleaved", "interpolated", "level_norms")
NOISE = torch.Generator().manual_seed(7)
IMAGE = torch.randn(2, 3, 1, 96, 96, generator=NOISE)
VIDEO = torch.randn(2, 3, 4, 96, 96, generator=NOISE)
REFERENCE = torch.randn(1, 3, 1, 256, 256, generator=NOISE)


def network(config: VJEPAConfig) -> VJEPA:
    """Random weights, the same under the same name whatever else the network holds."""
    made = VJEPA(config).eval().requires_grad_(False)
    for name, x in made.state_dict().items():
        x.copy_(random(name, tuple(x.shape), torch.Generator().manual_seed(sum(map(ord, name)))))
    return made


def like_version_2() -> dict[str, Tensor]:
    """Weights with which 2.1's further parts do what V-JEPA 2 does without them."""
    tensors = network(TINY).state_dict()
    tensors["patch_embed_img.proj.weight"] = tensors["patch_embed.proj.weight"].sum(2, keepdim=True)
    tensors["patch_embed_img.proj.bias"] = tensors["patch_embed.proj.bias"]
    tensors |= {f"{kind}_mod_embed": torch.zeros(1, 1, TINY.width) for kind in ("img", "video")}
    return tensors


def with_weights(config: VJEPAConfig, tensors: dict[str, Tensor]) -> VJEPA:
    made = VJEPA(config).eval().requires_grad_(False)
    named = {
        name: name if config.level_norms else name.replace("norms_block.0", "norms_block.3")
        for name in made.state_dict()
    }
    made.load_state_dict({ours: tensors[theirs] for ours, theirs in named.items()})
    return made


@pytest.fixture(scope="module")
def library() -> tuple[Any, VJEPA]:
    """The library's V-JEPA 2 and ours, with the same random weights."""
    from transformers import VJEPA2Config, VJEPA2Model

    theirs = VJEPA2Model(
        VJEPA2Config(
            crop_size=96,
            frames_per_clip=4,
            hidden_size=TINY.width,
            num_attention_heads=TINY.width // HEAD,
            num_hidden_layers=TINY.depth,
            mlp_ratio=TINY.mlp / TINY.width,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
            attn_implementation="eager",
        )
    ).eval()
    ours = network(VERSION_2)
    theirs.encoder.load_state_dict(_library_names(ours.state_dict()))
    return theirs, ours


def _library_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, x in tensors.items():
        name = name.replace("patch_embed.", "embeddings.patch_embeddings.").replace("norms_block.0", "layernorm")
        name = name.replace("blocks.", "layer.").replace(".attn.", ".attention.")
        if ".qkv." in name:
            parts = zip(("query", "key", "value"), x.chunk(3), strict=True)
            renamed |= {name.replace("qkv", part): value for part, value in parts}
        else:
            renamed[name] = x
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize("video", [IMAGE, VIDEO], ids=["image", "video"])
def test_in_2_0_mode_it_is_the_librarys_model(library: tuple[Any, VJEPA], video: Tensor) -> None:
    theirs, ours = library  # gradients stay on: the fused attention that runs without them rounds otherwise
    expected = theirs(rearrange(video, "B c T H W -> B T c H W"), skip_predictor=True).last_hidden_state
    assert (ours(video) - expected).abs().max() < 1e-6


def test_weights_and_switches_take_2_1_back_to_2_0() -> None:
    tensors = like_version_2()
    back = with_weights(replace(TINY, interleaved=False, interpolated=False), tensors)
    before = with_weights(VERSION_2, tensors)
    for video in (IMAGE, VIDEO):
        torch.testing.assert_close(back(video), before(video), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fact", FACTS)
@pytest.mark.parametrize("version", ["2.1", "2.0"])
def test_each_fact_changes_the_output(fact: str, version: str) -> None:
    config = TINY if version == "2.1" else VERSION_2
    switched = replace(config, **{fact: not getattr(config, fact)})
    assert (network(config)(IMAGE) - network(switched)(IMAGE)).abs().max() > 1e-2


@pytest.mark.parametrize("fact", ["images", "modality", "level_norms"])
def test_a_part_that_does_nothing_can_as_well_be_absent(fact: str) -> None:
    tensors = like_version_2()
    switched = replace(TINY, **{fact: False})
    torch.testing.assert_close(
        with_weights(TINY, tensors)(IMAGE), with_weights(switched, tensors)(IMAGE), rtol=0, atol=1e-5
    )


def test_positions_of_the_reference_grid_are_not_interpolated() -> None:
    plain = network(replace(TINY, interpolated=False))
    torch.testing.assert_close(network(TINY)(REFERENCE), plain(REFERENCE), rtol=0, atol=1e-5)


def test_frequencies_matter_only_where_there_is_more_than_one_position() -> None:
    tiled = network(replace(TINY, interleaved=False))
    token = IMAGE[..., :16, :16]
    torch.testing.assert_close(network(TINY)(token), tiled(token))


def test_every_grid_spans_the_reference_grid() -> None:
    reference, fine = (grid_rotation(TINY, 1, n, n)[1].unflatten(0, (n, n)) for n in (16, 24))
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(fine[row, column], reference[row, column])
    half = grid_rotation(TINY, 1, 31, 31)[1].unflatten(0, (31, 31))
    torch.testing.assert_close(half[::2, ::2], reference)


def test_a_grid_of_one_row_has_finite_positions() -> None:
    cosine, sine = grid_rotation(TINY, 1, 1, 4)
    assert cosine.isfinite().all()
    assert sine[:, AXIS : 2 * AXIS].eq(0).all()
    assert network(TINY)(IMAGE[..., :16, :]).isfinite().all()


def test_a_channel_turns_with_its_axis_and_the_last_four_never() -> None:
    _, sine = grid_rotation(TINY, 3, 16, 16)
    t, y, x = 2, 5, 11
    expected = [torch.tensor(position / 10_000 ** (i // 2 / 10)).sin() for position in (t, y, x) for i in range(AXIS)]
    token = sine[(t * 16 + y) * 16 + x]
    torch.testing.assert_close(token[: 3 * AXIS], torch.stack(expected))
    assert token[3 * AXIS :].tolist() == [0, 0, 0, 0]


def test_scores_depend_on_how_far_apart_tokens_are_and_not_on_where() -> None:
    q, k = torch.randn(2, 1, 1, 1, HEAD, generator=NOISE)
    turn = grid_rotation(TINY, 1, 16, 16)
    scores = rotate(q, turn) @ rotate(k, turn).mT
    grid = scores.unflatten(-1, (16, 16)).unflatten(-3, (16, 16))[0, 0]
    torch.testing.assert_close(grid[2, 3, 5, 9], grid[8, 1, 11, 7], rtol=0, atol=1e-4)
    assert (grid[2, 3, 5, 9] - grid[2, 3, 9, 5]).abs() > 1e-2


def test_tokens_are_in_order_of_rows_and_columns() -> None:
    blind = network(TINY)
    for block in blind.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    changed = IMAGE.clone()
    changed[..., 16:32, 64:80] += 1
    moved = (blind(changed) != blind(IMAGE)).any(-1)
    assert moved.nonzero()[:, 1].tolist() == [6 + 4, 6 + 4]


def test_levels_lie_beside_each_other_and_the_last_one_is_the_output() -> None:
    model = network(TINY)
    levels = model(IMAGE, multi=True)
    assert levels.shape == (2, 36, 4 * TINY.width)
    assert torch.equal(levels[..., -TINY.width :], model(IMAGE))
    assert len({tuple(level[0, 0].tolist()) for level in levels.chunk(4, -1)}) == 4


@pytest.mark.parametrize(
    ("depth", "levels"), [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (40, (9, 19, 29, 39)), (48, (11, 23, 37, 47))]
)
def test_levels_are_the_published_ones(depth: int, levels: tuple[int, ...]) -> None:
    assert VJEPAConfig(depth=depth).levels == levels


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"),
    [
        (VJEPAConfig(width=768, depth=12, mlp=3072), 86_833_152, 158),
        (VJEPAConfig(), 304_680_960, 302),
        (VJEPAConfig(width=1408, depth=40, mlp=6144), 1_013_267_968, 494),
    ],
    ids=["ViT-B", "ViT-L", "ViT-g"],
)
def test_parameters_are_as_many_as_published(config: VJEPAConfig, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        model = VJEPA(config)
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    assert shapes == layout(config.width, config.depth, config.mlp)
    assert sum(x.numel() for x in model.parameters()) == parameters
    assert len(shapes) == tensors


def test_operations_of_a_frame_agree_with_the_published_table() -> None:
    with torch.device("meta"):
        model, frame = VJEPA(VJEPAConfig()), torch.empty(1, 3, 1, 256, 256)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert model(frame).shape == (1, 256, 1024)
    assert counter.get_total_flops() / 1e9 == pytest.approx(154.7, rel=0.05)
