"""Web-DINO: the published sizes, a tiny folder of the hub, strict loading of such folders."""

import json
import shutil
import sys
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
from rslwm.latents.published.base import Options
from rslwm.latents.published.hub_transformers import CONFIG, FILE, INDEX, WebDINO
from rslwm.latents.published.weights import MissingWeights
from rslwm.types import DataError
from tiny_checkpoints.webdino import write

FRAMES = torch.rand(1, 2, 56, 56, 3, generator=generator(0, "frames"))
GATED = "encoder.layer.0.mlp.weights_in.weight"
QUERY = "encoder.layer.0.attention.attention.query.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of weights, with the tiny checkpoint in it."""
    return write(tmp_path_factory.mktemp("weights")).parent


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint's files, to be damaged."""
    return Path(shutil.copytree(folder / "web-dino", tmp_path / "web-dino"))


def open_tiny(folder: Path, input_size: int = 64, **options: Any) -> WebDINO:
    return WebDINO(EncoderConfig(weights=str(folder), input_size=input_size), 64, Options(**options))


def test_the_published_network_has_the_published_sizes() -> None:
    encoder = WebDINO(EncoderConfig(), 256)
    with torch.device("meta"):
        network = encoder.build(encoder.published)
    assert sum(p.numel() for p in network.parameters()) == encoder.published.parameters == 303_655_168
    assert (encoder.spec.grid, encoder.spec.channels) == ((16, 16), 1024)
    assert encoder.preprocessing.size == 224


def test_operations_of_a_frame_are_the_published_ones() -> None:
    encoding, decoding = WebDINO(EncoderConfig(), 256).flops()
    assert encoding / 1e9 == pytest.approx(155.8, rel=0.05)
    assert decoding == 0


def test_the_files_have_the_names_that_the_hub_s_have(folder: Path) -> None:
    names = load_file(folder / "web-dino" / FILE).keys()
    assert {QUERY, GATED, "encoder.layer.0.mlp.weights_out.bias"} <= names


def test_the_parameters_are_those_of_the_file(folder: Path) -> None:
    tensors = load_file(folder / "web-dino" / FILE)
    encoder = open_tiny(folder)
    network = encoder.network(torch.device("cpu"))
    assert encoder.spec.parameters == sum(x.numel() for x in tensors.values())
    assert encoder.spec.parameters == sum(p.numel() for p in network.parameters())


def test_latents_are_the_library_s_patch_tokens(folder: Path) -> None:
    from transformers import Dinov2Model

    library = Dinov2Model.from_pretrained(folder / "web-dino", dtype=torch.float32)
    images = (FRAMES[0] - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        tokens = library(images.permute(0, 3, 1, 2)).last_hidden_state
    latents = open_tiny(folder, dtype="float32").encode(FRAMES)
    torch.testing.assert_close(latents[0].flatten(1, 2), tokens[:, 1:])


def test_rows_and_columns_of_the_grid_are_those_of_the_frame(folder: Path) -> None:
    """Attention carries a change everywhere, but it is largest where it was made."""
    encoder, changed = open_tiny(folder, dtype="float32"), FRAMES.clone()
    changed[:, :, :14, 42:] = 1 - changed[:, :, :14, 42:]
    moved = (encoder.encode(changed) - encoder.encode(FRAMES))[0, 0].norm(dim=-1)
    assert moved.argmax() == 3


def test_another_input_size_interpolates_the_positions(folder: Path) -> None:
    encoder = open_tiny(folder, input_size=128)
    assert encoder.spec.grid == (8, 8)
    assert check_encoder(encoder).findings == ()


def test_loading_is_silent_and_leaves_the_global_random_stream_alone(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before, verbosity, bars = torch.get_rng_state(), logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    open_tiny(folder).encode(FRAMES)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (verbosity, bars)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("layernorm.bias"), r"'layernorm\.bias' is missing"),
        (lambda t: t.pop(QUERY), r"'encoder\.layer\.0\.attention\.q_proj\.weight' is missing"),
        (lambda t: t.update({"stowaway": torch.zeros(1)}), r"unexpected tensor 'stowaway'"),
        (lambda t: t.update({"layernorm.bias": torch.zeros(5)}), r"'layernorm\.bias' is \(5,\), expected \(32,\)"),
        (lambda t: t.update({GATED: torch.zeros(6, 32)}), r"mlp\.gate_proj\.weight' is \(3, 32\), expected \(48, 32\)"),
        (lambda t: t.update({GATED: torch.zeros(())}), r"its tensors can't be split"),
    ],
)
def test_other_tensors_are_refused(
    damage: Callable[[dict[str, Tensor]], Any], message: str, damaged: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(damaged / FILE)
    damage(tensors)
    save_file(tensors, damaged / FILE)
    encoder = open_tiny(damaged.parent)
    for _ in range(2):  # the first attempt leaves nothing behind that the second could take for a network
        with pytest.raises(DataError, match=rf"{FILE}: .*{message}"):
            encoder.encode(FRAMES)
    assert capfd.readouterr().err == ""


def test_a_pickle_is_never_opened(damaged: Path) -> None:
    torch.save(load_file(damaged / FILE), damaged / "pytorch_model.bin")
    (damaged / FILE).unlink()
    with pytest.raises(MissingWeights, match=rf"{FILE} does not exist"):
        open_tiny(damaged.parent)
    with pytest.raises(DataError, match=r"pytorch_model\.bin is truncated or not a safetensors file"):
        open_tiny(damaged.parent, weights=str(damaged / "pytorch_model.bin"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit"}, "model_type is 'vit'; web-dino reads models of type 'dinov2'"),
        ({"hidden_size": "wide"}, "hidden_size: expected int, got 'wide'"),
        ({"patch_size": 0}, "patch_size is 0, expected 1 or more"),
        ({"num_attention_heads": 5}, "num_attention_heads is 5, which doesn't divide 32"),
        ({"num_hidden_layers": 3}, r"'encoder\.layer\.2\.\S+' is missing"),
        ({"use_swiglu_ffn": False}, r"'encoder\.layer\.0\.mlp\.fc1\.bias' is missing"),
    ],
)
def test_the_configuration_of_another_model_is_refused(change: dict[str, Any], message: str, damaged: Path) -> None:
    config = json.loads((damaged / CONFIG).read_text()) | change
    (damaged / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as refusal:
        open_tiny(damaged.parent).encode(FRAMES)
    assert str(damaged) in str(refusal.value)


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", r"holds '\[\]'; expected a JSON object")])
def test_a_configuration_that_can_t_be_read_is_refused(text: str, message: str, damaged: Path) -> None:
    (damaged / CONFIG).write_text(text)
    with pytest.raises(DataError, match=rf"config\.json {message}"):
        open_tiny(damaged.parent)


def test_a_model_in_several_files_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    place = write(tmp_path, max_shard_size="50KB")
    whole, split, named = open_tiny(folder), open_tiny(tmp_path), open_tiny(folder, weights=str(place / INDEX))
    assert len(list(place.glob("*.safetensors"))) > 1
    assert split.spec.revision == named.spec.revision != whole.spec.revision
    assert torch.equal(split.encode(FRAMES), whole.encode(FRAMES))


def test_every_one_of_several_files_counts(tmp_path: Path) -> None:
    place = write(tmp_path, max_shard_size="50KB")
    before, shard = open_tiny(tmp_path).spec.revision, sorted(place.glob("*.safetensors"))[-1]
    tensors = load_file(shard)
    save_file({name: x + 1 for name, x in tensors.items()}, shard)
    assert open_tiny(tmp_path).spec.revision != before
    shard.unlink()
    with pytest.raises(MissingWeights, match=shard.name):
        open_tiny(tmp_path)


def test_an_index_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    place = write(tmp_path, max_shard_size="50KB")
    (place / INDEX).write_text(json.dumps({"weight_map": {"layernorm.bias": "../elsewhere.safetensors"}}))
    with pytest.raises(DataError, match=r"index\.json: weight_map must say in which file beside it"):
        open_tiny(tmp_path)


def test_without_its_library_the_command_that_installs_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"needs the package transformers; .* pip install 'rslwm\[encoders\]'"):
        open_tiny(folder).encode(FRAMES)
