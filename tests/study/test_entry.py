"""How a latent space is named, and names that are refused before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from rslwm.data.config import DataConfig
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import ENCODERS, EncoderConfig
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.study.graph import Study

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
