"""How a latent space is named, and names that are refused before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from rslwm import shipping
from rslwm.data.config import DataConfig
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import ENCODERS, EncoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig, space_folder
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.shipping import Card
from rslwm.study.checkpoint import train_spaces
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.study.graph import Study

CARD = Card("small-dino+4", "points", "rslwm compare points", {}, 0, {}, 1, {}, {}, {}, {})
CONFIG = StudyConfig(data=DataConfig(image_size=32), encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("small-vae", Entry("small-vae", "small-vae")),
        ("small-dino+16", Entry("small-dino+16", "small-dino", 16)),
        ("small-vae@3", Entry("small-vae", "small-vae", 0, 3)),
        ("twin=small-vae@1", Entry("twin", "small-vae", 0, 1)),
        ("a b=small-dino+8@2", Entry("a b", "small-dino", 8, 2)),
        (" small-vae ", Entry("small-vae", "small-vae")),
        ("/x/my_encoder.py:Mine+4", Entry("Mine+4", "/x/my_encoder.py:Mine", 4)),
        ("mine=/x/my_encoder.py:Mine@1", Entry("mine", "/x/my_encoder.py:Mine", 0, 1)),
        ("sd3-vae[shift=no]", Entry("sd3-vae-shift-no", "sd3-vae", options=(("shift", "no"),))),
        (
            "raw=sd3-vae[shift=no, posterior=sample]+8@2",
            Entry("raw", "sd3-vae", 8, 2, (("posterior", "sample"), ("shift", "no"))),
        ),
    ],
)
def test_names_are_read(text: str, entry: Entry) -> None:
    assert Entry.parse(text) == entry


@pytest.mark.parametrize("text", ["", "small-vae+", "small-vae+x", "a=b=c", "small-vae@", "@1", "+16", "small-vae+0"])
def test_malformed_names_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form \(ALIAS=\)ENCODER\(\[CHOICE=VALUE,\.\.\.\]\)"):
        Entry.parse(text)


@pytest.mark.parametrize("alias", ["..", ".", "a/b", "truth", "../../home", "-x", "x "])
def test_names_that_no_file_can_safely_have_are_refused(alias: str) -> None:
    with pytest.raises(ConfigError, match=r"can't name a latent space, since files are called after it"):
        Entry.parse(f"{alias}=small-vae")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole space of the study's frames, trained before: small-dino+4@points, which is all that is shipped."""
    monkeypatch.setattr(shipping, "SHIPPED", tmp_path / "shipped")
    folder = tmp_path / "shipped/points/small-dino+4"
    config = SpaceConfig("small-dino", 32, 4, encoder=CONFIG.encoder, adapter=AdapterConfig(heads=2))
    save(replace(config, decode=True), folder)
    replace(CARD, files=shipping.sums(folder)).save(folder)
    return folder


def save(config: SpaceConfig, folder: Path) -> None:
    LatentSpace(config).save(folder / "space")


@pytest.mark.parametrize(
    ("text", "name", "seed"),
    [
        ("small-dino+4@points", "small-dino+4", 0),
        ("small-dino+4@points@2", "small-dino+4", 2),
        ("mine=small-dino+4@points", "mine", 0),
        ("{}", "small-dino+4", 0),
        ("mine={}@1", "mine", 1),
        ("{}/space", "space", 0),
    ],
)
def test_a_space_that_is_there_is_named_by_collection_or_path(text: str, name: str, seed: int, folder: Path) -> None:
    entry = Entry.parse(text.format(folder))
    assert (entry.name, entry.seed, entry.channels, entry.image_size) == (name, seed, 0, 32)
    assert space_folder(entry.folder) == folder / "space"
    assert entry.encoder is ENCODERS.get("small-dino")
    spec = entry.open(CONFIG).spec
    assert (spec.name, spec.family, spec.channels) == ("small-dino+4", "semantic", 4)


def test_of_a_space_that_is_there_no_setting_of_the_study_counts(folder: Path) -> None:
    other = replace(CONFIG, encoder=EncoderConfig(width=32), adapter=AdapterConfig(heads=4))
    entry = Entry.parse("small-dino+4@points")
    assert entry.space(other) == entry.space(CONFIG) == LatentSpace.load(folder).config


def test_other_names_than_the_shipped_are_refused(folder: Path) -> None:
    with pytest.raises(
        UnknownName, match=r"nothing called 'small-vae@points' is shipped\. Shipped: small-dino\+4@points"
    ):
        Entry.parse("small-vae@points")


def test_a_folder_without_a_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"latents: 'mine=.*': .*space\.yaml does not exist: the folder holds no latent"
    ):
        Entry.parse(f"mine={tmp_path}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(image_size=64), "data.image_size is 64, but the space small-dino\\+4 has 32; set it so, or train"),
        (
            DataConfig(image_size=32, camera="a,b"),
            r"data\.camera 'a,b' is 2 camera\(s\), but the space .* trained on 1",
        ),
    ],
)
def test_a_space_of_other_frames_is_refused(data: DataConfig, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = Study(replace(CONFIG, latents=("small-dino+4@points",), data=data)).targets


def test_a_space_without_pixels_is_refused(tmp_path: Path) -> None:
    save(SpaceConfig("small-vae", 32, encoder=CONFIG.encoder), tmp_path / "bare")
    with pytest.raises(ConfigError, match="bare has no pixel decoder"):
        _ = Study(replace(CONFIG, latents=(f"{tmp_path}/bare",))).targets


def test_what_is_trained_already_is_not_trained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"latents: small-dino\+4@points is trained already; leave it out"):
        train_spaces(replace(CONFIG, latents=("small-dino+4@points",)), tmp_path / "out")


def test_a_relative_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Entry.parse("own.py:Mine").reference == f"{tmp_path.resolve()}/own.py:Mine"


@pytest.mark.parametrize(
    ("latents", "error", "message"),
    [
        ((), ConfigError, "name at least one latent space"),
        (("small-vae", "small-vae@1"), ConfigError, r"'small-vae' occurs twice; give one of them an alias"),
        (("small-cosmo",), UnknownName, r"did you mean 'small-cosmos'\?"),
        (("small-vae[shift=no]",), ConfigError, r"small-vae has no options, but \{'shift': 'no'\} is given"),
        (("sd3-vae[shfit=no]",), ConfigError, r"sd3-vae\[\.\.\.\]: unknown field 'shfit'; known: .*shift"),
        (
            ("small-dino+16", "small-vae+2"),
            ConfigError,
            r"small-vae\+2 can't be built: adapter\.heads 8 does not divide the 4 channels",
        ),
    ],
)
def test_a_study_that_cannot_run_is_refused(latents: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _ = Study(replace(CONFIG, latents=latents, adapter=AdapterConfig(heads=8))).targets


def test_a_study_without_seeds_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"seeds: 0 trainings"):
        _ = Study(replace(CONFIG, latents=("small-vae",), seeds=0)).variants


def test_an_encoder_whose_latents_are_not_what_it_declares_is_refused(plugin: Path) -> None:
    Entry.parse(f"{plugin}:PatchMean").check(CONFIG)
    with pytest.raises(ConfigError, match=r"WrongGrid encodes one frame to \(1, 1, 4, 4, 3\), .* grid \(5, 5\)"):
        Entry.parse(f"{plugin}:WrongGrid").check(CONFIG)


def test_something_that_is_no_encoder_is_refused(plugin: Path) -> None:
    with pytest.raises(ConfigError, match=r"not_an_encoder .*no subclass of rslwm\.latents\.base\.Encoder"):
        Entry.parse(f"{plugin}:not_an_encoder").open(CONFIG)


def test_only_the_aligned_autoencoder_has_a_teacher(plugin: Path) -> None:
    teachers = {name: Entry.parse(name).encoder.teacher for name in ("small-vae", "small-vavae", f"{plugin}:PatchMean")}
    assert list(teachers.values()) == [None, "small-dino", None]


def test_a_plugin_is_told_from_its_edited_self(tmp_path: Path, plugin: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(plugin.read_text())
    before = Entry.parse(f"{file}:PatchMean").source()
    file.write_text(plugin.read_text() + "# edited")
    assert Entry.parse(f"{file}:PatchMean").source() != before != ""
    assert Entry.parse("small-vae").source() == "1"


def test_an_installed_plugin_is_told_from_its_edited_self(monkeypatch: pytest.MonkeyPatch, plugin: Path) -> None:
    installed = Entry.parse(f"{plugin}:PatchMean")
    monkeypatch.setitem(ENCODERS._entries, "installed", installed.encoder)
    assert Entry.parse("installed").source() == installed.source() != ""
