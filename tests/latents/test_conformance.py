"""What every encoder of the registry keeps, the published ones on a tiny checkpoint in the published layout."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
import yaml

from rslwm.compute import generator, seeded
from rslwm.latents.base import ENCODERS, EncoderConfig, encoder_class
from rslwm.latents.check import check_encoder
from rslwm.latents.published.base import PublishedEncoder
from rslwm.latents.published.weights import ENVIRONMENT, MissingWeights
from rslwm.latents.space import LatentSpace, SpaceConfig, open_encoder
from rslwm.serialisation import ConfigError
from rslwm.trust import VARIABLE
from rslwm.types import DataError
from tiny_checkpoints import cosmos, sd3, siglip2, vavae, vjepa, webdino

SIZE = 64
WRITERS: dict[str, Callable[[Path], Path]] = {
    "cosmos-ci16": cosmos.write,
    "sd3-vae": sd3.write,
    "siglip2": siglip2.write,
    "va-vae": vavae.write,
    "vjepa2.1": vjepa.write,
    "web-dino": webdino.write,
}
TINY = {
    "cosmos-ci16": ((4, 4), 8),
    "sd3-vae": ((8, 8), sd3.CHANNELS),
    "siglip2": ((4, 4), siglip2.CHANNELS),
    "va-vae": ((4, 4), vavae.CHANNELS),
    "vjepa2.1": ((4, 4), vjepa.WIDTH),
    "web-dino": ((4, 4), webdino.CHANNELS),
}
"""Grid and channels of the tiny checkpoints, of frames of 64 px."""
PUBLISHED = [name for name in ENCODERS if issubclass(encoder_class(name), PublishedEncoder)]
FRAMES = torch.randint(256, (1, 3, SIZE, SIZE, 3), generator=generator(0, "frames"), dtype=torch.uint8)
NEEDS_FILE = {"entry"}
"""Options whose other values need other files."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of weights, with every tiny checkpoint in it."""
    folder = tmp_path_factory.mktemp("weights")
    for write in WRITERS.values():
        write(folder)
    return folder


@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")


def config(name: str, folder: Path | str, **options: Any) -> SpaceConfig:
    encoder = EncoderConfig(str(folder), input_size=64, width=32, depth=1, heads=2)
    return SpaceConfig(name, SIZE, options={k: yaml.safe_dump(v) for k, v in options.items()}, encoder=encoder)


def opened(name: str, folder: Path | str, **options: Any) -> Any:
    with seeded(0, name):
        return open_encoder(config(name, folder, **options)).eval()


def choices(name: str) -> list[tuple[str, str, Any]]:
    """Every option of an encoder with a value that isn't its default."""
    kind, found = encoder_class(name).options_type, []
    for option, hint in (get_type_hints(kind) if kind else {}).items():
        default = getattr(kind, option)
        if option != "weights" and option not in NEEDS_FILE:
            others = get_args(hint) or (not default if hint is bool else 2 * default + 4 * (not default),)
            found.append((name, option, next(other for other in others if other != default)))
    return found


@pytest.mark.parametrize("name", list(ENCODERS))
def test_it_does_what_its_spec_says_frame_by_frame_and_repeatably(name: str, folder: Path) -> None:
    encoder = opened(name, folder)
    assert check_encoder(encoder).findings == ()
    assert encoder.spec.name == name
    assert (encoder.spec.grid, encoder.spec.channels) == TINY.get(name, (encoder.spec.grid, encoder.spec.channels))
    assert encoder.spec.licence
    assert bool(encoder.spec.preprocessing)


@pytest.mark.parametrize("name", list(ENCODERS))
@torch.no_grad()
def test_stored_frames_are_encoded_as_floats_are(name: str, folder: Path) -> None:
    with seeded(0, name):
        space = LatentSpace(config(name, folder)).eval()
    assert torch.equal(space.encode(FRAMES), space.encode(FRAMES.float() / 255))
    assert space.encode(FRAMES).dtype == torch.float32


@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_choice_that_it_does_not_offer_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=name):
        opened(name, folder, stowaway="x")


@pytest.mark.parametrize(("name", "option", "value"), [choice for name in ENCODERS for choice in choices(name)])
def test_a_choice_is_in_the_record_and_nothing_else_changes(name: str, option: str, value: Any, folder: Path) -> None:
    record = opened(name, folder).spec.preprocessing
    other = opened(name, folder, **{option: value}).spec.preprocessing
    assert other != record
    own = {"size"} if option == "input" else {option}
    assert {key for key in record if other[key] != record[key]} - {option} <= own
    assert other.get(option, value) == value


@pytest.mark.parametrize("name", list(ENCODERS))
def test_its_settings_are_all_that_it_reads_of_the_configuration(name: str, folder: Path) -> None:
    encoder, space = opened(name, folder), config(name, folder)
    with seeded(0, name):
        again = open_encoder(replace(space, encoder=encoder.settings(space.encoder))).eval()
    assert again.spec == encoder.spec
    frames = FRAMES.float() / 255
    assert torch.equal(again.encode(frames), encoder.encode(frames))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_is_frozen_and_nobody_s_to_save(name: str, folder: Path) -> None:
    before = torch.get_rng_state()
    encoder = opened(name, folder)
    latents = encoder.encode(FRAMES.float() / 255)
    assert torch.equal(torch.get_rng_state(), before)
    assert not latents.requires_grad
    assert not any(p.requires_grad for p in encoder.network(latents.device).parameters())
    assert encoder.state_dict() == {}
    assert encoder.weights_state()[0] == "here"


@pytest.mark.parametrize("name", [*WRITERS])
def test_weights_that_are_missing_are_named_with_how_to_get_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    encoder = opened(name, tmp_path)
    state, how = encoder.weights_state()
    assert (state, encoder.source.command in how) == ("missing", True)
    with pytest.raises(
        MissingWeights, match=rf"{name}: its weights are not on this machine.*{encoder.source.files[0]}"
    ):
        encoder.encode(FRAMES.float() / 255)


@pytest.mark.parametrize("name", [*WRITERS])
def test_a_truncated_file_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    file = opened(name, tmp_path).weights.file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{file.name} is truncated"):
        opened(name, tmp_path).encode(FRAMES.float() / 255)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_only_what_decodes_counts_operations_of_decoding(name: str, folder: Path) -> None:
    encoder = opened(name, folder)
    encoding, decoding = encoder.flops()
    assert encoding >= 0
    assert (decoding > 0) == encoder.decodes
