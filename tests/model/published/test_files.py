"""Files of the published code are read whatever their layout, strictly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from published_vectors import stored
from rslwm.model.published.files import PublishedAdapter, PublishedDiT
from rslwm.types import DataError

Tensors = dict[str, Tensor]


def weights(name: str) -> Tensors:
    return stored(name)[0]


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def zeros(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "layout",
    [
        lambda w: w,
        lambda w: {"ema": w, "model": zeros(w), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "step": 7},
        lambda w: {"model": w, "step": 7},
        lambda w: {"state_dict": prefixed("module.", w)},
        lambda w: {"ema": prefixed("module._orig_mod.", w), "model": prefixed("_orig_mod.", zeros(w))},
        lambda w: prefixed("_orig_mod.", w),
        lambda w: {"model": zeros(w), "model_ema": w},
    ],
)
def test_a_transformer_is_found_in_every_layout(layout: Callable[[Tensors], Any], tmp_path: Path) -> None:
    stored = weights("dit_wide_p1")
    torch.save(layout(stored), tmp_path / "DiT-S.pt")
    found = PublishedDiT.read(tmp_path / "DiT-S.pt").tensors
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], stored[name]) for name in stored)


@pytest.mark.parametrize(
    ("name", "sizes"), [("dit_wide_p1", (48, 2, 1, 48, 10, 12)), ("dit_plain_p2", (64, 2, 2, 0, 10, 8))]
)
def test_sizes_of_a_transformer_are_inferred(name: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    torch.save({"ema": weights(name)}, tmp_path / "DiT.pt")
    dit = PublishedDiT.read(tmp_path / "DiT.pt")
    config = dit.config
    inferred = (config.width, config.depth, config.patch, config.wide_head, config.action_inputs, dit.channels)
    assert inferred == sizes


def test_the_papers_head_count_is_known_by_size(tmp_path: Path) -> None:
    heads = {}
    for size, depth in ((384, 12), (1152, 28), (640, 3)):
        blocks = {f"blocks.{i}.x": torch.zeros(1) for i in range(depth)}
        tensors = {"x_proj.weight": torch.zeros(size, 1, 1, 1), "action_embedder.weight": torch.zeros(size, 10)}
        torch.save(blocks | tensors, tmp_path / "DiT.pt")
        heads[size] = PublishedDiT.read(tmp_path / "DiT.pt").usual_heads
    assert heads == {384: 6, 1152: 16, 640: 10}


@pytest.mark.parametrize(
    "layout",
    [
        lambda a, d: {"adapter": a, "pixel_decoder": d},
        lambda a, d: {"adapter": prefixed("module.", a), "pixel_decoder": prefixed("_orig_mod.", d), "step": 3},
        lambda a, d: {"adapter": zeros(a), "adapter_ema": a, "pixel_decoder": zeros(d), "pixel_decoder_ema": d},
        lambda a, d: {"ema": {"adapter": a, "pixel_decoder": d}, "adapter": zeros(a), "pixel_decoder": zeros(d)},
        lambda a, d: prefixed("adapter.", a) | prefixed("pixel_decoder.", d),
    ],
)
def test_an_adapter_and_its_decoder_are_found_in_every_layout(
    layout: Callable[[Tensors, Tensors], Any], tmp_path: Path
) -> None:
    svae, decoder = weights("svae"), weights("pixel_decoder")
    torch.save(layout(svae, decoder), tmp_path / "adapter.pt")
    found = PublishedAdapter.read(tmp_path / "adapter.pt")
    assert found.pixels is not None
    for ours, theirs in ((found.tensors, svae), (found.pixels.tensors, decoder)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_sizes_of_an_adapter_and_its_decoder_are_inferred(tmp_path: Path) -> None:
    torch.save({"adapter": weights("svae"), "pixel_decoder": weights("pixel_decoder")}, tmp_path / "adapter.pt")
    found = PublishedAdapter.read(tmp_path / "adapter.pt")
    assert (found.width, found.channels, found.config.blocks, found.config.hidden) == (48, 8, 2, 96)
    decoder = found.decoder
    assert (decoder.kind, decoder.width, decoder.multipliers, decoder.blocks) == ("ldm", 8, (1, 1, 2), 1)
    assert (found.heads, found.decoder_heads, found.encoder) == (None, None, None)


def test_settings_beside_the_weights_are_read(tmp_path: Path) -> None:
    settings = {
        "adapter_config": {"adapter_type": "svae", "adapter_num_heads": 4},
        "encoder_config": {"encoder_type": "vjepa2", "vjepa2_checkpoint_path": None},
        "pixel_decoder_config": {"attn_heads": 1, "output_activation": "sigmoid", "attn_resolutions": (16,)},
    }
    parts = {"adapter": weights("svae"), "pixel_decoder": weights("pixel_decoder")}
    torch.save(parts | settings, tmp_path / "adapter.pt")
    found = PublishedAdapter.read(tmp_path / "adapter.pt")
    assert (found.heads, found.decoder_heads, found.encoder) == (4, 1, "vjepa2")
    settings["pixel_decoder_config"]["output_activation"] = "tanh"
    torch.save(parts | settings, tmp_path / "adapter.pt")
    with pytest.raises(DataError, match=r"adapter\.pt: output_activation is 'tanh'"):
        PublishedAdapter.read(tmp_path / "adapter.pt")


def test_a_file_with_something_else_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"adapter": {"encoder_mlp.0.weight": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"no S-VAE adapter.*but adapter\.encoder_mlp\.0\.weight"):
        PublishedAdapter.read(tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt holds no transformer"):
        PublishedDiT.read(tmp_path / "x.pt")
    torch.save({"a": weights("dit_wide_p1"), "b": weights("dit_wide_p1")}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"several sets of weights, \['a\.', 'b\.'\]"):
        PublishedDiT.read(tmp_path / "x.pt")
    torch.save({"step": 1}, tmp_path / "x.pt")
    with pytest.raises(DataError, match="no tensor at all"):
        PublishedDiT.read(tmp_path / "x.pt")
