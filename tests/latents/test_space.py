"""A latent space is saved, loaded strictly, and turns frames into normalised latents and back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rslwm.compute import generator, seeded
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig, SubPixelDecoder
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.serialisation import ConfigError
from rslwm.types import DataError

CONFIG = SpaceConfig(
    "small-dino",
    32,
    channels=4,
    decode=True,
    encoder=EncoderConfig(width=16, depth=1, heads=2),
    adapter=AdapterConfig(heads=2),
    decoder=DecoderConfig(width=16),
)
FRAMES = torch.rand(2, 3, 32, 32, 3, generator=generator(0, "frames"))


@pytest.fixture
def space() -> LatentSpace:
    with seeded(0, "weights"), torch.no_grad():
        space = LatentSpace(CONFIG).eval()
        space.normaliser.fit(space.compress(space.encoder.encode(FRAMES)))
    return space


@torch.no_grad()
def test_a_saved_space_encodes_and_decodes_the_same(space: LatentSpace, tmp_path: Path) -> None:
    space.save(tmp_path)
    loaded = LatentSpace.load(tmp_path)
    assert loaded.config == space.config
    assert loaded.spec == space.spec
    assert torch.equal(loaded.encode(FRAMES), space.encode(FRAMES))
    assert torch.equal(loaded.decode(loaded.encode(FRAMES)), space.decode(space.encode(FRAMES)))


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["small-vae", "small-vavae", "small-cosmos", "small-vjepa", "small-dino", "small-siglip"]
)
def test_without_what_only_training_uses_a_space_is_smaller_and_encodes_the_same(name: str, tmp_path: Path) -> None:
    with seeded(0, "weights"):
        space = LatentSpace(replace(CONFIG, reference=name, channels=0, adapter=AdapterConfig()))
    space.save(tmp_path / "whole")
    space.encoder.take_down()
    space.save(tmp_path / "bare")
    loaded = LatentSpace.load(tmp_path / "bare")
    assert torch.equal(loaded.encode(FRAMES), LatentSpace.load(tmp_path / "whole").encode(FRAMES))
    assert loaded.spec == space.spec
    encoder = [x for key, x in loaded.state_dict().items() if key.startswith("encoder.")]
    assert sum(x.numel() for x in encoder) == loaded.spec.parameters


def test_a_part_of_what_only_training_uses_is_refused(space: LatentSpace, tmp_path: Path) -> None:
    space.save(tmp_path)
    tensors = load_file(tmp_path / "space.safetensors")
    save_file({k: x for k, x in tensors.items() if k != "encoder.mask_token"}, tmp_path / "space.safetensors")
    with pytest.raises(DataError, match=r"tensor 'encoder\.mask_token' is missing"):
        LatentSpace.load(tmp_path)


def test_a_space_is_found_in_the_folder_of_its_world_model(space: LatentSpace, tmp_path: Path) -> None:
    space.save(tmp_path / "model/space")
    assert LatentSpace.load(tmp_path / "model").spec == LatentSpace.load(tmp_path / "model/space").spec == space.spec


@torch.no_grad()
def test_latents_are_normalised_and_frames_within_range(space: LatentSpace) -> None:
    z = space.encode(FRAMES)
    torch.testing.assert_close(z.flatten(0, -2).std(0), torch.ones(4))
    frames = space.decode(100 * z)
    assert frames.shape == FRAMES.shape
    assert 0 <= frames.min() < frames.max() <= 1


def test_an_adapted_space_says_so(space: LatentSpace) -> None:
    native = space.encoder.spec
    assert (space.spec.name, space.spec.channels) == ("small-dino+4", 4)
    assert space.spec.parameters > native.parameters
    assert space.spec.preprocessing["adapter"] == "S-VAE to 4 channels"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("normaliser.mean"), r"tensor 'normaliser\.mean' is missing"),
        (lambda t: t.update({"normaliser.mean": torch.zeros(5)}), r"'normaliser\.mean' is \(5,\), expected \(4,\)"),
        (lambda t: t.update({"stowaway": torch.zeros(1)}), r"unexpected tensor 'stowaway'"),
    ],
)
def test_other_weights_are_refused_with_the_first_tensor(damage, message, space: LatentSpace, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    space.save(tmp_path)
    tensors = load_file(tmp_path / "space.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "space.safetensors")
    with pytest.raises(DataError, match=message):
        LatentSpace.load(tmp_path)


def test_a_truncated_or_missing_file_is_named(space: LatentSpace, tmp_path: Path) -> None:
    space.save(tmp_path)
    path = tmp_path / "space.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"space\.safetensors is truncated"):
        LatentSpace.load(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"space\.safetensors does not exist"):
        LatentSpace.load(tmp_path)
    (tmp_path / "space.yaml").unlink()
    with pytest.raises(ConfigError, match=r"space\.yaml does not exist"):
        LatentSpace.load(tmp_path)


def test_a_space_gets_its_pixels_later(space: LatentSpace, tmp_path: Path) -> None:
    bare = LatentSpace(replace(CONFIG, decode=False, decoder=DecoderConfig()))
    with pytest.raises(DataError, match=r"small-dino\+4 has no pixel decoder"):
        bare.decode(torch.zeros(1, 1, 4, 4, 4))
    assert space.pixels is not None
    bare.set_pixels(space.pixels)
    bare.save(tmp_path)
    assert LatentSpace.load(tmp_path).config == CONFIG


def test_a_space_of_a_users_own_file_loads_from_its_path(plugin: Path, tmp_path: Path) -> None:
    LatentSpace(SpaceConfig(f"{plugin}:PatchMean", 32)).save(tmp_path)
    z = LatentSpace.load(tmp_path).encode(FRAMES)
    torch.testing.assert_close(z[0, 0, 0, 0], FRAMES[0, 0, :8, :8].mean((0, 1)))


def test_a_decoder_needs_a_grid_that_it_can_upsample(space: LatentSpace) -> None:
    with pytest.raises(ValueError, match=r"a 4x4 grid can't be decoded to 36 px \(a multiple of 8\)"):
        SubPixelDecoder(DecoderConfig(width=16), space.spec, 36)
    with pytest.raises(ValueError, match=r"a 2x4 grid"):
        SubPixelDecoder(DecoderConfig(width=16), replace(space.spec, grid=(2, 4)), 32)
