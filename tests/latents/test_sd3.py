"""SD3's autoencoder: the published sizes, a tiny checkpoint of the published layout, and what its options say."""

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
from rslwm.latents.published.autoencoder_kl import SD3VAE, SD3Options
from rslwm.types import DataError
from tiny_checkpoints.sd3 import write

FRAMES = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of weights, with the tiny checkpoint in it."""
    return write(tmp_path_factory.mktemp("weights")).parent


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint's files, to be damaged."""
    return Path(shutil.copytree(folder / "sd3-vae" / "vae", tmp_path / "sd3-vae"))


def open_tiny(folder: Path, **options: Any) -> SD3VAE:
    return SD3VAE(EncoderConfig(weights=str(folder), input_size=64), 64, SD3Options(**options))


def test_the_published_network_has_the_published_sizes() -> None:
    encoder = SD3VAE(EncoderConfig(), 256)
    with torch.device("meta"):
        network: Any = encoder.build(encoder.published)
    encoding, decoding = (sum(p.numel() for p in part.parameters()) for part in (network.encoder, network.decoder))
    assert (encoding, decoding) == (encoder.published.parameters, 49_545_475)
    assert (encoding / 1e6, decoding / 1e6) == pytest.approx((34.3, 49.5), abs=0.05)
    assert encoder.sized(encoder.published.config) == encoder.published
    assert (encoder.spec.grid, encoder.spec.channels) == ((32, 32), 16)


def test_operations_of_a_frame_are_the_published_ones() -> None:
    encoding, decoding = SD3VAE(EncoderConfig(), 256).flops()
    assert encoding / 1e9 == pytest.approx(270.8, rel=0.05)
    assert decoding / 1e9 == pytest.approx(620.2, rel=0.05)


def test_the_parameters_are_those_of_the_file(folder: Path) -> None:
    tensors = load_file(folder / "sd3-vae" / "vae" / FILE)
    counted = sum(x.numel() for name, x in tensors.items() if name.startswith("encoder."))
    assert open_tiny(folder).spec.parameters == counted


def test_the_network_equals_the_library_s(folder: Path) -> None:
    from diffusers import AutoencoderKL

    encoder = open_tiny(folder, dtype="float32")
    library = AutoencoderKL.from_pretrained(folder / "sd3-vae", subfolder="vae", torch_dtype=torch.float32)
    images = 2 * FRAMES[0].permute(0, 3, 1, 2) - 1
    with torch.no_grad():
        z = library.encode(images).latent_dist.mean
        decoded = library.decode(z).sample
    latents = encoder.encode(FRAMES)
    torch.testing.assert_close(latents[0], ((z - 0.0609) * 1.5305).permute(0, 2, 3, 1))
    expected = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(encoder.decode(latents)[0], expected, atol=1e-4, rtol=0)


def test_the_shift_moves_all_latents_alike_and_pixels_not(folder: Path) -> None:
    shifted, plain = (open_tiny(folder, dtype="float32", shift=shift) for shift in (True, False))
    z, z_plain = shifted.encode(FRAMES), plain.encode(FRAMES)
    torch.testing.assert_close(z_plain - z, torch.full_like(z, 0.0609 * 1.5305))
    torch.testing.assert_close(shifted.decode(z), plain.decode(z_plain), atol=1e-4, rtol=0)


def test_a_posterior_sample_is_another_latent_and_always_the_same(folder: Path) -> None:
    mode, sample = (open_tiny(folder, posterior=kind) for kind in ("mode", "sample"))
    z = sample.encode(FRAMES)
    assert not torch.equal(z, mode.encode(FRAMES))
    assert torch.equal(z, sample.encode(FRAMES))
    assert check_encoder(sample).findings == ()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("encoder.conv_in.bias"), r"'encoder\.conv_in\.bias' is missing"),
        (lambda t: t.update({"encoder.stowaway": torch.zeros(1)}), r"unexpected tensor 'encoder\.stowaway'"),
        (lambda t: t.update({"encoder.conv_in.bias": torch.zeros(5)}), r"'encoder\.conv_in\.bias' is \(5,\), exp"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [({"_class_name": "AutoencoderTiny"}, "of no AutoencoderKL"), ({"scaling_factor": ...}, "lacks 'scaling_factor'")],
)
def test_the_configuration_of_another_model_is_refused(change: dict[str, Any], message: str, damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text()) | change
    (damaged / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    with pytest.raises(DataError, match=message):
        open_tiny(damaged.parent)


def test_a_configuration_that_is_no_json_is_refused(damaged: Path) -> None:
    (damaged / "config.json").write_text('{"latent_channels": ')
    with pytest.raises(DataError, match=r"config\.json is not JSON"):
        open_tiny(damaged.parent)
