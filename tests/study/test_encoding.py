"""The latents of a data set, straight from its videos."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.stored import SPACE, Encoding, require_room
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.study.graph import Study
from rslwm.study.stages.latents import LatentsStage, SpaceStage
from rslwm.study.subjects import Variant
from rslwm.types import DataError
from studies import run
from tiny_checkpoints import sd3


@pytest.fixture
def study(corpus: Corpus, compute: ComputeConfig) -> StudyConfig:
    return StudyConfig(data=corpus.config, compute=compute)


def variant(name: str, study: StudyConfig) -> Variant:
    """As `rslwm latents encode` has it: a single pass over the frames needs no store of them."""
    config = replace(study, decoder=DecoderConfig(own=True))
    return Variant(study=Study(config, stored_frames=False), entry=Entry.parse(name))


def fitted(name: str, study: StudyConfig, root: Path) -> Path:
    """The folder of a space that takes no training."""
    stage = variant(name, study).frozen()
    return run([stage], root).folder(stage) / SPACE


@pytest.fixture
def encoding(corpus: Corpus, plugin: Path, study: StudyConfig, tmp_path: Path) -> Encoding:
    space = fitted(f"{plugin}:PatchMean", study, tmp_path / "made")
    return Encoding(space, corpus.dataset.root, "", study.data, study.compute)


def test_latents_are_normalised_over_the_training_episodes(corpus: Corpus, encoding: Encoding, tmp_path: Path):
    store = encoding.write(tmp_path / "out")
    assert store.keys == corpus.dataset.ids
    latents = torch.cat([store[corpus.dataset.ids[i]] for i in corpus.train]).float().flatten(0, -2)
    torch.testing.assert_close(latents.mean(0), torch.zeros(3), atol=0.01, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(3), atol=0.01, rtol=0)


def test_the_space_and_the_store_are_those_of_a_study(
    corpus: Corpus, plugin: Path, study: StudyConfig, encoding: Encoding, tmp_path: Path
):
    """Which decodes the videos once, and stores the frames."""
    (stored,) = Study(replace(study, latents=(f"{plugin}:PatchMean",))).variants
    work = run([stored.pull(LatentsStage)], tmp_path / "study")
    theirs, ours = work.open(stored.pull(LatentsStage)), encoding.write(tmp_path / "out")
    space = work.folder(stored.pull(SpaceStage)) / SPACE / "space.safetensors"
    assert space.read_bytes() == (encoding.space / "space.safetensors").read_bytes()
    assert all(torch.equal(theirs[key], ours[key]) for key in corpus.dataset.ids)


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(encoding: Encoding, tmp_path: Path):
    one, two = encoding.write(tmp_path / "one"), encoding.write(tmp_path / "two", processes=2)
    names = sorted(path.name for path in one.root.iterdir())
    assert names == sorted(path.name for path in two.root.iterdir())
    assert all((one.root / name).read_bytes() == (two.root / name).read_bytes() for name in names)


def test_what_does_not_fit_on_the_disk_is_refused(
    corpus: Corpus, encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage, space = namedtuple("usage", "free"), LatentSpace.load(encoding.space)
    needed = int(corpus.dataset.lengths.sum()) * space.spec.bytes_per_frame
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(needed - 1))
    with pytest.raises(DataError, match=r"the latents need .* but its disk has .* free"):
        require_room(tmp_path / "out", needed)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(needed))
    require_room(tmp_path / "out", needed)
    assert encoding.write(tmp_path / "out").nbytes == needed
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(0))
    require_room(tmp_path / "out", needed)  # nothing is left to write


@pytest.mark.parametrize(("name", "part"), [("small-vae", "its encoder"), ("effnet-lite0+16", "its adapter to 16")])
def test_what_has_to_be_trained_is_refused(name: str, part: str, study: StudyConfig):
    with pytest.raises(ConfigError, match=f"{part}.*latents train"):
        variant(name, study).frozen()


def test_another_split_is_another_space(plugin: Path, study: StudyConfig):
    other = replace(study, data=replace(study.data, split_seed=1))
    one, two = (variant(f"{plugin}:PatchMean", config).frozen() for config in (study, other))
    assert one != two


def test_a_published_autoencoder_keeps_its_own_decoder(corpus: Corpus, study: StudyConfig, tmp_path: Path):
    sd3.write(tmp_path)
    published = replace(study, encoder=EncoderConfig(weights=str(tmp_path), input_size=32))
    folder = fitted("sd3-vae", published, tmp_path / "made")
    space = LatentSpace.load(folder)
    frames = corpus.frames[corpus.dataset.ids[0]][None, :3].float() / 255
    latents = space.encode(frames)
    expected = space.encoder.decode(space.normaliser.inverse(latents))
    torch.testing.assert_close(space.decode(latents), expected)
    assert Encoding(folder, corpus.dataset.root, "", study.data, study.compute).write(tmp_path / "out").nbytes


def test_views_lie_side_by_side(plugin: Path, tmp_path: Path):
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", 32, views=2))
    assert space.spec.bytes_per_frame == 2 * space.view_spec.bytes_per_frame
