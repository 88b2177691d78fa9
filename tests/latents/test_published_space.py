"""A saved latent space of a published encoder, with and without that encoder's weights at hand."""

from pathlib import Path

import pytest
import torch

from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.published.weights import MissingWeights
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.types import DataError
from tiny_checkpoints import sd3


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A space with a pixel decoder of its own over a tiny sd3-vae, whose weights lie in ``weights``."""
    sd3.write(tmp_path / "weights")
    encoder = EncoderConfig(weights=str(tmp_path / "weights"), input_size=64)
    config = SpaceConfig("sd3-vae", 64, decode=True, encoder=encoder, decoder=DecoderConfig(width=16))
    LatentSpace(config).save(tmp_path / "space")
    return tmp_path / "space"


def test_no_tensor_of_the_encoder_is_copied(saved: Path) -> None:
    space = LatentSpace.load(saved)
    space.encode(torch.zeros(1, 1, 64, 64, 3))
    assert not [name for name in space.state_dict() if name.startswith("encoder.")]


def test_without_the_weights_it_is_the_same_space_and_decodes(saved: Path) -> None:
    there = LatentSpace.load(saved)
    (saved.parent / "weights").rename(saved.parent / "elsewhere")
    here = LatentSpace.load(saved)
    z = torch.randn(1, 2, *here.spec.grid, here.spec.channels)
    assert here.spec == there.spec
    assert torch.equal(here.decode(z), there.decode(z))
    with pytest.raises(MissingWeights, match=r"(?s)hf download .* --encoder\.weights"):
        here.encode(torch.zeros(1, 1, 64, 64, 3))


def test_other_weights_are_refused(saved: Path) -> None:
    weights = next((saved.parent / "weights").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80?")  # the last weight becomes 1
    with pytest.raises(DataError, match=r"encoder\.json: .*put the encoder's original weights"):
        LatentSpace.load(saved)


def test_other_options_are_refused(saved: Path) -> None:
    text = (saved / "space.yaml").read_text()
    (saved / "space.yaml").write_text(text.replace("options: {}", "options: {posterior: sample}"))
    with pytest.raises(DataError, match="original weights and options"):
        LatentSpace.load(saved)


def test_a_space_without_its_record_is_refused(saved: Path) -> None:
    (saved / "encoder.json").unlink()
    with pytest.raises(DataError, match=r"encoder\.json does not exist"):
        LatentSpace.load(saved)


@pytest.mark.parametrize("reference", ["{folder}/mine.py:Mine", "mine.py:Mine"])
def test_a_folder_cannot_bring_code_along(saved: Path, reference: str) -> None:
    (saved / "mine.py").write_text("raise AssertionError('this code ran')")
    text = (saved / "space.yaml").read_text()
    (saved / "space.yaml").write_text(text.replace("sd3-vae", reference.format(folder=saved), 1))
    with pytest.raises(DataError, match="code that would come with the folder"):
        LatentSpace.load(saved)
