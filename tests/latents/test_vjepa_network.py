"""V-JEPA 2.1's transformer: equal to a library's V-JEPA 2 but for the documented facts, and those one by one."""

from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rslwm.latents.published import vjepa
from rslwm.latents.published.vjepa import AXIS, HEAD, VJEPA, Rotation, VJEPAConfig, grid_rotation, rotate
from tiny_checkpoints.vjepa import layout, random

TINY = VJEPAConfig(width=128, depth=4, mlp=96)
FACTS = ("images", "modality", "interleaved", "interpolated")
NOISE = torch.Generator().manual_seed(7)
IMAGE = torch.randn(2, 3, 1, 96, 96, generator=NOISE)
VIDEO = torch.randn(2, 3, 4, 96, 96, generator=NOISE)


def network() -> VJEPA:
    """Random weights, the same at every call."""
    made = VJEPA(TINY).eval().requires_grad_(False)
    for name, x in made.state_dict().items():
        x.copy_(random(name, tuple(x.shape), torch.Generator().manual_seed(sum(map(ord, name)))))
    return made


def undo(fact: str, network: VJEPA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a network do as V-JEPA 2 does in this regard."""
    if fact == "images":  # a single frame is repeated to fill a tubelet
        network.patch_embed_img[0].weight.copy_(network.patch_embed[0].weight.sum(2, keepdim=True))
        network.patch_embed_img[0].bias.copy_(network.patch_embed[0].bias)
    elif fact == "modality":  # tokens are not told what they come from
        nn.init.zeros_(network.img_mod_embed)
        nn.init.zeros_(network.video_mod_embed)
    elif fact == "interleaved":  # the frequencies are listed twice, one after another
        monkeypatch.setattr(vjepa, "grid_rotation", tiled)
    elif fact == "interpolated":  # positions along a side are integers
        monkeypatch.setattr(vjepa, "REFERENCE_SIDE", IMAGE.shape[-1])


def tiled(*grid: Any) -> Rotation:
    cosine, sine = (
        torch.cat([rearrange(x[:, : 3 * AXIS], "N (tyx f pair) -> N (tyx pair f)", tyx=3, pair=2), x[:, 3 * AXIS :]], 1)
        for x in grid_rotation(*grid)
    )
    return cosine, sine


def library(ours: VJEPA) -> nn.Module:
    """The library's V-JEPA 2 with the weights of ours."""
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
    theirs.encoder.load_state_dict(_library_names(ours.state_dict()))
    return theirs


def _library_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    new = ("patch_embed_img.", "img_mod_embed", "video_mod_embed", *(f"norms_block.{level}." for level in range(3)))
    for name, x in tensors.items():
        if name.startswith(new):
            continue
        name = name.replace("patch_embed.", "embeddings.patch_embeddings.").replace("norms_block.3", "layernorm")
        name = name.replace("blocks.", "layer.").replace(".attn.", ".attention.")
        if ".qkv." in name:
            parts = zip(("query", "key", "value"), x.chunk(3), strict=True)
            renamed |= {name.replace("qkv", part): value for part, value in parts}
        else:
            renamed[name] = x
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize("video", [IMAGE, VIDEO], ids=["image", "video"])
def test_but_for_these_facts_it_is_the_librarys_v_jepa_2(video: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = network()
    for fact in FACTS:
        undo(fact, ours, monkeypatch)
    theirs = library(ours)  # gradients stay on: the fused attention that runs without them rounds otherwise
    expected = theirs(rearrange(video, "B c T H W -> B T c H W"), skip_predictor=True).last_hidden_state
    torch.testing.assert_close(ours(video), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fact", FACTS)
def test_each_fact_changes_the_output(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = network()
    expected = ours(IMAGE)
    undo(fact, ours, monkeypatch)
    assert (ours(IMAGE) - expected).abs().max() > 1e-2


def test_every_grid_spans_the_reference_grid() -> None:
    reference, fine = (grid_rotation(TINY.patch, 1, n, n)[1].unflatten(0, (n, n)) for n in (16, 24))
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(fine[row, column], reference[row, column])
    half = grid_rotation(TINY.patch, 1, 31, 31)[1].unflatten(0, (31, 31))
    torch.testing.assert_close(half[::2, ::2], reference)


def test_a_grid_of_one_row_has_finite_positions() -> None:
    cosine, sine = grid_rotation(TINY.patch, 1, 1, 4)
    assert cosine.isfinite().all()
    assert sine[:, AXIS : 2 * AXIS].eq(0).all()
    assert network()(IMAGE[..., :16, :]).isfinite().all()


def test_a_channel_turns_with_its_axis_and_the_last_four_never() -> None:
    _, sine = grid_rotation(TINY.patch, 3, 16, 16)
    t, y, x = 2, 5, 11
    expected = [torch.tensor(position / 10_000 ** (i // 2 / 10)).sin() for position in (t, y, x) for i in range(AXIS)]
    token = sine[(t * 16 + y) * 16 + x]
    torch.testing.assert_close(token[: 3 * AXIS], torch.stack(expected))
    assert token[3 * AXIS :].tolist() == [0, 0, 0, 0]


def test_scores_depend_on_how_far_apart_tokens_are_and_not_on_where() -> None:
    q, k = torch.randn(2, 1, 1, 1, HEAD, generator=NOISE)
    turn = grid_rotation(TINY.patch, 1, 16, 16)
    scores = rotate(q, turn) @ rotate(k, turn).mT
    grid = scores.unflatten(-1, (16, 16)).unflatten(-3, (16, 16))[0, 0]
    torch.testing.assert_close(grid[2, 3, 5, 9], grid[8, 1, 11, 7], rtol=0, atol=1e-4)
    assert (grid[2, 3, 5, 9] - grid[2, 3, 9, 5]).abs() > 1e-2


def test_tokens_are_in_order_of_rows_and_columns() -> None:
    blind = network()
    for block in blind.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    changed = IMAGE.clone()
    changed[..., 16:32, 64:80] += 1
    moved = (blind(changed) != blind(IMAGE)).any(-1)
    assert moved.nonzero()[:, 1].tolist() == [6 + 4, 6 + 4]


def test_levels_lie_beside_each_other_and_the_last_one_is_the_output() -> None:
    model = network()
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
