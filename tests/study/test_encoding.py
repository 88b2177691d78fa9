"""The latents of a data set, straight from its videos."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rslwm.study.encoding import make_space, native_space

from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.latents.base import EncoderConfig
from rslwm.latents.encoding import Encoding, FrameStore, Videos
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.latents.store import require_room
from rslwm.latents.stored import SPACE
from rslwm.run.stage import Stage, Workspace
from rslwm.serialisation import ConfigError
from rslwm.study import stages
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry
from rslwm.types import DataError
from tiny_checkpoints import sd3


@pytest.fixture
def study(corpus: Corpus, compute: ComputeConfig) -> StudyConfig:
    return StudyConfig(data=corpus.config, compute=compute)


def fitted(entry: Entry, study: StudyConfig, folder: Path) -> tuple[Stage, Path]:
    """The stage of a native space, and the space that it leaves."""
    data, stage = native_space(entry, study)
    inputs = [folder / "data", folder / "space"]
    for work in inputs:
        work.mkdir(parents=True)
    stages.make_data(Workspace(data.config, [], inputs[0]))
    make_space(Workspace(stage.config, inputs[:1], inputs[1]))
    return stage, inputs[1] / SPACE


@pytest.fixture
def encoding(corpus: Corpus, plugin: Path, study: StudyConfig, tmp_path: Path) -> Encoding:
    _, space = fitted(Entry.parse(f"{plugin}:PatchMean"), study, tmp_path / "made")
    return Encoding(space, Videos(corpus.dataset.root), study.compute)


def test_latents_are_normalised_over_the_training_episodes(corpus: Corpus, encoding: Encoding, tmp_path: Path):
    store = encoding.write(tmp_path / "out")
    assert store.keys == corpus.dataset.ids
    latents = torch.cat([store[corpus.dataset.ids[i]] for i in corpus.train]).float().flatten(0, -2)
    torch.testing.assert_close(latents.mean(0), torch.zeros(3), atol=0.01, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(3), atol=0.01, rtol=0)


def test_the_space_and_the_store_are_those_of_a_study(
    corpus: Corpus, plugin: Path, study: StudyConfig, encoding: Encoding, tmp_path: Path
):
    space = LatentSpace.load(encoding.space)
    work = Workspace(
        stages.LatentsStage(space.config, corpus.config, study.compute),
        [tmp_path / "made/data", corpus.frames.root, tmp_path / "encoder"],
        tmp_path / "study",
    )
    work.inputs[2].mkdir()
    work.out.mkdir()
    stages.write_tensors(space.encoder.state_dict(), work.inputs[2] / "encoder.safetensors")
    stages.make_latents(work)
    theirs, ours = TensorStore(work.out / "store"), encoding.write(tmp_path / "out")
    assert all(torch.equal(theirs[key], ours[key]) for key in corpus.dataset.ids)


@pytest.mark.slow
def test_neither_the_number_of_processes_nor_where_frames_come_from_changes_a_byte(
    corpus: Corpus, encoding: Encoding, tmp_path: Path
):
    decoded = replace(encoding, frames=FrameStore(corpus.frames.root))
    one, two = encoding.write(tmp_path / "one"), decoded.write(tmp_path / "two", processes=2)
    names = sorted(path.name for path in one.root.iterdir())
    assert names == sorted(path.name for path in two.root.iterdir())
    assert all((one.root / name).read_bytes() == (two.root / name).read_bytes() for name in names)


def test_what_does_not_fit_on_the_disk_is_refused(
    corpus: Corpus, encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage, (space, _) = namedtuple("usage", "free"), encoding.open()
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
        native_space(Entry.parse(name), study)


def test_another_split_is_another_space(plugin: Path, study: StudyConfig):
    entry = Entry.parse(f"{plugin}:PatchMean")
    other = replace(study, data=replace(study.data, split_seed=1))
    assert native_space(entry, study)[1].key != native_space(entry, other)[1].key


def test_a_published_autoencoder_keeps_its_own_decoder(corpus: Corpus, study: StudyConfig, tmp_path: Path):
    sd3.write(tmp_path)
    published = replace(study, encoder=EncoderConfig(weights=str(tmp_path), input_size=32))
    _, folder = fitted(Entry.parse("sd3-vae"), published, tmp_path / "made")
    space = LatentSpace.load(folder)
    frames = corpus.frames[corpus.dataset.ids[0]][None, :3].float() / 255
    latents = space.encode(frames)
    expected = space.encoder.decode(space.normaliser.inverse(latents))
    torch.testing.assert_close(space.decode(latents), expected)
    assert Encoding(folder, Videos(corpus.dataset.root), study.compute).write(tmp_path / "out").nbytes


def test_views_lie_side_by_side(plugin: Path, tmp_path: Path):
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", 32, views=2))
    assert space.spec.bytes_per_frame == 2 * space.view_spec.bytes_per_frame
