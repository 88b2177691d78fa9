"""VA-VAE: the published sizes and names, a tiny checkpoint of the published layout, and what its options say."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rslwm.compute import generator
from rslwm.latents.base import EncoderConfig
from rslwm.latents.published.autoencoder_kl import STATISTICS, VAVAE, VAVAEOptions, ldm_name
from rslwm.latents.published.weights import MissingWeights
from rslwm.types import DataError
from tiny_checkpoints.vavae import CHANNELS, FILE, autoencoder, layout, write

FRAMES = torch.rand(1, 2, 64, 64, 3, generator=generator(0, "frames"))
IMAGES = 2 * FRAMES[0].permute(0, 3, 1, 2) - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of weights, with the tiny checkpoint in it."""
    return write(tmp_path_factory.mktemp("weights")).parent


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint's folder, to be damaged."""
    return Path(shutil.copytree(folder / "va-vae", tmp_path / "va-vae"))


def open_tiny(folder: Path, **options: Any) -> VAVAE:
    return VAVAE(EncoderConfig(weights=str(folder), input_size=64), 64, VAVAEOptions(**options))


def published_network() -> Any:
    with torch.device("meta"):
        return VAVAE(EncoderConfig(), 256).build(VAVAE.published)


class LatentDiffusion:
    """The network as latent diffusion defines it, in plain functions of the file's tensors."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def conv(self, x: Tensor, name: str, **how: Any) -> Tensor:
        return F.conv2d(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], **how)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.group_norm(x, 32, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], eps=1e-6)

    def block(self, x: Tensor, name: str) -> Tensor:
        y = self.conv(F.silu(self.norm(x, f"{name}.norm1")), f"{name}.conv1", padding=1)
        y = self.conv(F.silu(self.norm(y, f"{name}.norm2")), f"{name}.conv2", padding=1)
        return y + (self.conv(x, f"{name}.nin_shortcut") if f"{name}.nin_shortcut.bias" in self.tensors else x)

    def attention(self, x: Tensor, name: str) -> Tensor:
        if f"{name}.norm.bias" not in self.tensors:
            return x
        q, k, v = (self.conv(self.norm(x, f"{name}.norm"), f"{name}.{part}").flatten(2) for part in "qkv")
        weights = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(-1)
        return x + self.conv((v @ weights.transpose(1, 2)).view_as(x), f"{name}.proj_out")

    def level(self, x: Tensor, name: str, blocks: int) -> Tensor:
        for j in range(blocks):
            x = self.attention(self.block(x, f"{name}.block.{j}"), f"{name}.attn.{j}")
        return x

    def middle(self, x: Tensor, name: str) -> Tensor:
        x = self.attention(self.block(x, f"{name}.mid.block_1"), f"{name}.mid.attn_1")
        return self.block(x, f"{name}.mid.block_2")

    def out(self, x: Tensor, name: str) -> Tensor:
        return self.conv(F.silu(self.norm(x, f"{name}.norm_out")), f"{name}.conv_out", padding=1)

    def encode(self, images: Tensor) -> Tensor:
        x = self.conv(images, "encoder.conv_in", padding=1)
        for i in range(5):
            x = self.level(x, f"encoder.down.{i}", 2)
            x = self.conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{i}.downsample.conv", stride=2) if i < 4 else x
        return self.conv(self.out(self.middle(x, "encoder"), "encoder"), "quant_conv").chunk(2, 1)[0]

    def decode(self, z: Tensor) -> Tensor:
        x = self.middle(self.conv(self.conv(z, "post_quant_conv"), "decoder.conv_in", padding=1), "decoder")
        for i in reversed(range(5)):
            x = self.level(x, f"decoder.up.{i}", 3)
            larger = F.interpolate(x, scale_factor=2.0)
            x = self.conv(larger, f"decoder.up.{i}.upsample.conv", padding=1) if i else x
        return self.out(x, "decoder")


def test_the_key_map_is_complete_and_injective() -> None:
    shapes = layout((128, 128, 256, 256, 512), 32)
    ours = {name: tuple(x.shape) for name, x in published_network().state_dict().items()}
    assert len(shapes) == 342
    assert sorted(map(ldm_name, ours)) == sorted(shapes)  # every name once
    for name, shape in ours.items():
        theirs = shapes[ldm_name(name)]
        assert theirs == shape or theirs == (*shape, 1, 1), name


def test_the_published_network_has_the_published_sizes() -> None:
    encoder, network = VAVAE(EncoderConfig(), 256), published_network()
    encoding, decoding, before, after = (
        sum(p.numel() for p in part.parameters())
        for part in (network.encoder, network.decoder, network.quant_conv, network.post_quant_conv)
    )
    assert (encoding / 1e6, decoding / 1e6) == pytest.approx((28.4, 41.4), abs=0.05)
    assert (encoding + decoding + before + after) / 1e6 == pytest.approx(69.84, abs=0.005)
    assert encoding + before == encoder.published.parameters
    assert encoder.sized(encoder.published.config) == encoder.published
    assert (encoder.spec.grid, encoder.spec.channels) == ((16, 16), 32)
    assert not list(network.buffers())  # nothing that a strict load would leave unset


def test_operations_of_a_frame_are_the_published_ones() -> None:
    encoding, decoding = VAVAE(EncoderConfig(), 256).flops()
    assert encoding / 1e9 == pytest.approx(137.9, rel=0.05)
    assert decoding / 1e9 == pytest.approx(252.2, rel=0.05)
    options = VAVAEOptions(posterior="sample", normalise=True)  # counted without weights, statistics or an image
    assert VAVAE(EncoderConfig(), 256, options).flops() == (encoding, decoding)


def test_the_network_equals_latent_diffusion_s(folder: Path) -> None:
    encoder, reference = open_tiny(folder, dtype="float32"), LatentDiffusion(autoencoder())
    latents, z = encoder.encode(FRAMES), reference.encode(IMAGES)
    torch.testing.assert_close(latents[0], z.permute(0, 2, 3, 1), atol=1e-4, rtol=1e-4)
    expected = (reference.decode(z) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(encoder.decode(latents)[0], expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1  # not all clamped


def test_the_parameters_are_those_of_the_file(folder: Path) -> None:
    counted = sum(x.numel() for name, x in autoencoder().items() if name.startswith(("encoder.", "quant_conv.")))
    assert open_tiny(folder).spec.parameters == counted


@pytest.mark.parametrize("others", [{}, {"foundation_model.x": torch.zeros(1), "loss.y": torch.zeros(1)}])
def test_a_flat_dictionary_loads_like_a_lightning_checkpoint(
    others: dict[str, Tensor], folder: Path, copy: Path
) -> None:
    torch.save(autoencoder() | others, copy / FILE)
    assert torch.equal(open_tiny(copy.parent).encode(FRAMES), open_tiny(folder).encode(FRAMES))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("decoder.up.3.block.1.norm1.bias"), r"'decoder\.up\.3\.block\.1\.norm1\.bias' is missing"),
        (lambda t: t.pop("encoder.down.2.block.0.conv1.weight"), r"'encoder\.down\.2\.block\.0.* is missing"),
        (lambda t: t.update({"encoder.stowaway": torch.zeros(1)}), r"unexpected tensor 'encoder\.stowaway'"),
        (lambda t: t.update({"encoder.conv_in.bias": torch.zeros(5)}), r"'encoder\.conv_in\.bias' is \(5,\), exp"),
        (lambda t: t.update({"encoder.conv_in.bias": 3}), r"'encoder\.conv_in\.bias' is a int, expected a tensor"),
        (lambda t: t.update({"encoder.mid.attn_1.q.weight": torch.zeros(64, 64, 3, 3)}), r"attn_1\.q\.weight' is"),
        (lambda t: t.update({"encoder.down.0.block.0.conv1.weight": torch.zeros(())}), r"is \(\), expected a conv"),
        (lambda t: t.update({"encoder.down.0.block.0.conv1.weight": torch.zeros(8, 8, 3, 3)}), r"a multiple of 32"),
        (lambda t: [t.pop(name) for name in list(t) if "oder." in name], r"'encoder\.down\.0.* is missing"),
    ],
)
def test_other_tensors_are_refused(damage: Callable[[dict[str, Any]], Any], message: str, copy: Path) -> None:
    tensors: dict[str, Any] = autoencoder()
    damage(tensors)
    torch.save({"state_dict": tensors}, copy / FILE)
    for _ in range(2):
        with pytest.raises(DataError, match=rf"{FILE}: .*{message}"):
            open_tiny(copy.parent).encode(FRAMES)


def test_code_in_the_file_is_refused(copy: Path) -> None:
    torch.save({"state_dict": autoencoder(), "callbacks": shutil.rmtree}, copy / FILE)
    with pytest.raises(DataError, match=rf"{FILE} would run code: its pickle asks for shutil\.rmtree"):
        open_tiny(copy.parent)


def test_a_state_that_is_no_dictionary_is_refused(copy: Path) -> None:
    torch.save({"state_dict": [torch.zeros(1)]}, copy / FILE)
    with pytest.raises(DataError, match=rf"{FILE}: 'state_dict' is a list"):
        open_tiny(copy.parent)


def test_published_statistics_normalise_the_latents_and_not_the_pixels(folder: Path) -> None:
    plain, normalised = (open_tiny(folder, dtype="float32", normalise=n) for n in (False, True))
    statistics = torch.load(folder / "va-vae" / STATISTICS, weights_only=True)
    mean, std = (statistics[name].flatten() for name in ("mean", "std"))
    z, z_normalised = plain.encode(FRAMES), normalised.encode(FRAMES)
    torch.testing.assert_close(z_normalised, (z - mean) / std)
    torch.testing.assert_close(normalised.decode(z_normalised), plain.decode(z), atol=1e-4, rtol=0)


def test_statistics_are_needed_only_where_they_are_asked_for(copy: Path) -> None:
    (copy / STATISTICS).unlink()
    open_tiny(copy.parent).encode(FRAMES)
    with pytest.raises(MissingWeights, match=STATISTICS):
        open_tiny(copy.parent, normalise=True)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"mean": torch.zeros(1, CHANNELS, 1, 1)}, "'std' is missing"),
        ({"mean": torch.zeros(CHANNELS), "std": torch.ones(CHANNELS)}, r"'mean' is \(4,\), expected \(1, 4, 1, 1\)"),
        ({"mean": torch.zeros(1, CHANNELS, 1, 1), "std": torch.zeros(1, CHANNELS, 1, 1)}, "not positive"),
    ],
)
def test_other_statistics_are_refused(statistics: dict[str, Tensor], message: str, copy: Path) -> None:
    torch.save(statistics, copy / STATISTICS)
    with pytest.raises(DataError, match=rf"{STATISTICS}: .*{message}"):
        open_tiny(copy.parent, normalise=True).encode(FRAMES)


def test_a_posterior_sample_is_another_latent_and_always_the_same(folder: Path) -> None:
    mode, sample = (open_tiny(folder, posterior=kind) for kind in ("mode", "sample"))
    z = sample.encode(FRAMES)
    assert not torch.equal(z, mode.encode(FRAMES))
    assert torch.equal(z, sample.encode(FRAMES))
