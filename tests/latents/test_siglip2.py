"""SigLIP 2: the published sizes, the seeing half of a tiny folder of the hub, and which features are taken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.check import check_encoder
from rslwm.latents.published.hub_transformers import CONFIG, FILE, SigLIP2, SigLIP2Options
from rslwm.types import DataError
from tiny_checkpoints.siglip2 import write

FRAMES = torch.rand(1, 2, 56, 56, 3, generator=generator(0, "frames"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of weights, with the tiny checkpoint in it."""
    return write(tmp_path_factory.mktemp("weights")).parent


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint's files, to be damaged."""
    return Path(shutil.copytree(folder / "siglip2", tmp_path / "siglip2"))


def open_tiny(folder: Path, input_size: int = 64, **options: Any) -> SigLIP2:
    return SigLIP2(EncoderConfig(weights=str(folder), input_size=input_size), 64, SigLIP2Options(**options))


def test_the_published_network_has_the_published_sizes() -> None:
    encoder = SigLIP2(EncoderConfig(), 256)
    with torch.device("meta"):
        network = encoder.build(encoder.published)
    assert sum(p.numel() for p in network.parameters()) == encoder.published.parameters == 427_680_704
    assert (encoder.spec.grid, encoder.spec.channels) == ((16, 16), 1152)
    assert encoder.preprocessing.size == 224


def test_operations_of_a_frame_are_the_published_ones() -> None:
    encoding, _ = SigLIP2(EncoderConfig(), 256).flops()
    assert encoding / 1e9 == pytest.approx(211.9, rel=0.05)


def test_patches_of_sixteen_pixels_need_no_smaller_image(tmp_path: Path) -> None:
    write(tmp_path, patch=16)
    encoder = open_tiny(tmp_path)
    assert (encoder.preprocessing.size, encoder.spec.grid) == (64, (4, 4))
    assert check_encoder(encoder).findings == ()


def test_what_the_library_leaves_out_of_the_configuration_is_its_default(damaged: Path) -> None:
    content = json.loads((damaged / CONFIG).read_text())
    del content["vision_config"]["patch_size"], content["vision_config"]["image_size"]
    (damaged / CONFIG).write_text(json.dumps(content))
    architecture = open_tiny(damaged.parent).architecture
    assert (architecture.patch, architecture.config.image_size) == (16, 224)


def test_another_input_size_interpolates_the_positions(folder: Path) -> None:
    encoder = open_tiny(folder, input_size=128)
    assert encoder.spec.grid == (8, 8)
    assert check_encoder(encoder).findings == ()


def test_the_parameters_are_those_of_the_half_that_sees(folder: Path) -> None:
    tensors = load_file(folder / "siglip2" / FILE)
    encoder = open_tiny(folder)
    network = encoder.network(torch.device("cpu"))
    assert encoder.spec.parameters == sum(x.numel() for name, x in tensors.items() if name.startswith("vision_model."))
    assert encoder.spec.parameters == sum(p.numel() for p in network.parameters())


def test_features_are_the_library_s_before_and_after_the_norm(folder: Path) -> None:
    from transformers import SiglipModel

    library = SiglipModel.from_pretrained(folder / "siglip2", dtype=torch.float32).vision_model
    images = 2 * FRAMES[0].permute(0, 3, 1, 2) - 1
    with torch.no_grad():
        result = library(images, output_hidden_states=True)
    for kind, expected in (("before-norm", result.hidden_states[-1]), ("after-norm", result.last_hidden_state)):
        latents = open_tiny(folder, dtype="float32", features=kind).encode(FRAMES)
        torch.testing.assert_close(latents[0].flatten(1, 2), expected)


def test_loading_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_tiny(folder).encode(FRAMES)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("vision_model.head.probe"), r"'vision_model\.head\.probe' is missing"),
        (lambda t: t.update({"stowaway": torch.zeros(1)}), r"unexpected tensor 'stowaway'"),
        (lambda t: t.update({"vision_model.extra": torch.zeros(1)}), r"unexpected tensor 'vision_model\.extra'"),
        (lambda t: t.update({"vision_model.post_layernorm.bias": torch.zeros(5)}), r"bias' is \(5,\), expected \(32,"),
    ],
)
def test_other_tensors_are_refused(damage: Callable[[dict[str, Tensor]], Any], message: str, damaged: Path) -> None:
    tensors = load_file(damaged / FILE)
    damage(tensors)
    save_file(tensors, damaged / FILE)
    encoder = open_tiny(damaged.parent)
    for _ in range(2):  # the first attempt leaves nothing behind that the second could take for a network
        with pytest.raises(DataError, match=rf"{FILE}: .*{message}"):
            encoder.encode(FRAMES)


def test_a_file_without_the_half_that_sees_is_refused(damaged: Path) -> None:
    tensors = load_file(damaged / FILE)
    save_file({name: x for name, x in tensors.items() if not name.startswith("vision_model.")}, damaged / FILE)
    with pytest.raises(DataError, match=rf"{FILE}: holds no tensor vision_model\.\*, only such as 'logit_bias'"):
        open_tiny(damaged.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip2"}, "model_type is 'siglip2'; siglip2 reads models of type 'siglip'"),
        ({"vision_config": None}, "vision_config is None, expected the description of a network"),
    ],
)
def test_the_configuration_of_another_model_is_refused(change: dict[str, Any], message: str, damaged: Path) -> None:
    content = json.loads((damaged / CONFIG).read_text()) | change
    (damaged / CONFIG).write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"config\.json: {message}"):
        open_tiny(damaged.parent)
