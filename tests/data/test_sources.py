"""What every data source promises, and what SCHEME:LOCATION means."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from demonstrations import demo, written
from foreign import Foreign
from recordings import SPEC, episode
from rslwm.data.config import DataConfig, split_uri
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.base import Source
from rslwm.data.sources.opening import SOURCES, located, open_source
from rslwm.registry import UnknownName
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.types import DataError
from tfds_folder import example, tfds

SIM = SimConfig(episodes=2, min_steps=4, max_steps=5, image_size=32)
OWN = '''
from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.base import Source
from rslwm.types import Episode, end_effector_spec, silent
import numpy as np

class Numbers(Source):
    """LOCATION is a file of brightness values, one an episode."""

    def write(self, folder, progress=silent):
        values = [int(line) for line in self.path.read_text().split()]
        episodes = (
            Episode(f"e{i}", {"front": np.full((3, 16, 16, 3), v, np.uint8)}, np.zeros((3, 7), np.float32))
            for i, v in enumerate(values)
        )
        return write_lerobot(episodes, folder, end_effector_spec(1, 1), len(values), progress)
'''


def lerobot(folder: Path, count: int) -> str:
    write_lerobot([episode(i) for i in range(count)], folder / "set", SPEC)
    return f"lerobot:{folder / 'set'}"


def rlds(folder: Path, count: int) -> str:
    return f"rlds:{tfds(folder / 'set', [[example(i) for i in range(count)]])}"


def hdf5(folder: Path, count: int) -> str:
    pytest.importorskip("h5py", reason="h5py, of the extra hdf5, is not installed")
    return f"hdf5:{written(folder / 'lift.hdf5', {f'demo_{i}': demo(i) for i in range(count)})}"


def own(folder: Path, count: int) -> str:
    (folder / "numbers.py").write_text(OWN)
    (folder / "values.txt").write_text("\n".join(str(50 + 10 * i) for i in range(count)))
    return f"{folder / 'numbers.py'}:Numbers:{folder / 'values.txt'}"


Recorder = Callable[[Path, int], str]
RECORDED = {"lerobot": lerobot, "rlds": rlds, "hdf5": hdf5, "own": own}


@dataclass
class Case:
    """A source of two episodes, and what makes one of any number."""

    folder: Path
    config: DataConfig
    record: Recorder | None

    @property
    def source(self) -> Source:
        return open_source(self.config)


@pytest.fixture(params=["sim", *RECORDED])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "sim":
        pytest.importorskip("rslwm.sim.record", exc_type=ImportError)
        return Case(tmp_path, DataConfig(sim=SIM, image_size=32), None)
    (tmp_path / "data").mkdir()
    record = RECORDED[request.param]
    return Case(tmp_path / "data", DataConfig(record(tmp_path / "data", 2), image_size=16), record)


def test_it_is_recorded_or_imported_once(case: Case, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    told: list[tuple[int, int, str]] = []
    dataset = case.source.open(tmp_path / "cache", lambda *progress: told.append(progress))
    assert len(dataset) == 2
    assert told == [(1, 2, "episodes"), (2, 2, "episodes")] * (dataset.root.parent == tmp_path / "cache")
    again = case.source.open(tmp_path / "cache", lambda *_: pytest.fail("recorded again"))
    assert again.root == dataset.root
    assert case.source.reopen(dataset.root).fingerprint == dataset.fingerprint


def test_a_finished_folder_says_where_its_episodes_are(case: Case, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    dataset = case.source.open(stage)
    (stage / "facts.json").write_text(json.dumps(case.source.location(dataset, stage)))
    fingerprint = dataset.fingerprint
    assert located(stage, case.config).root == dataset.root
    assert located(stage.rename(tmp_path / "moved"), case.config).fingerprint == fingerprint


def test_what_is_known_beforehand_is_what_is_there(case: Case, tmp_path: Path) -> None:
    dataset, size = case.source.open(tmp_path), case.source.size()
    if size and size.counted:
        assert (size.episodes, size.frames) == (len(dataset), dataset.lengths.sum())
    elif size:
        assert size.episodes == len(dataset)
        assert size.frames >= dataset.lengths.sum()


def test_a_preview_shows_the_frames_that_are_read_later(case: Case, tmp_path: Path) -> None:
    dataset, config = case.source.open(tmp_path), case.config
    camera, preview = dataset.cameras[0], open_source(config).preview(10_000)
    whole = np.concatenate([dataset.frames(i, camera) for i in range(2)])
    assert preview.dtype == torch.uint8
    if whole.shape[1:] == preview.shape[1:]:
        shown = preview.numpy()[: len(whole)].astype(int)  # the simulator shows more than it records here
        assert np.abs(shown - whole).mean() < 4  # what H.264 does to them
    few = open_source(replace(config, image_size=8)).preview(3)
    assert few.shape == (3, 8, 8, 3)
    with pytest.raises(DataError, match="no camera 'nowhere'; it has: "):
        open_source(replace(config, camera="nowhere")).preview(3)


def test_its_key_changes_with_its_content_and_nothing_else(case: Case, tmp_path: Path) -> None:
    key = case.source.key()
    assert open_source(replace(case.config, camera="side", frame_skip=5, test_fraction=0.5)).key() == key
    if not case.record:
        assert open_source(replace(case.config, sim=replace(SIM, seed=1))).key() != key
        return
    copy = shutil.copytree(case.folder, tmp_path / "copy")
    for path in copy.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    moved = replace(case.config, uri=case.config.uri.replace(str(case.folder), str(copy)))
    assert open_source(moved).key() == key
    (tmp_path / "more").mkdir()
    assert open_source(replace(case.config, uri=case.record(tmp_path / "more", 3))).key() != key


def test_an_action_spec_is_part_of_its_key(case: Case, tmp_path: Path) -> None:
    keys = {case.source.key()}
    for content in ("names: [x]", "names: [y]"):
        (tmp_path / "spec.yaml").write_text(content)
        keys.add(open_source(replace(case.config, action_spec=str(tmp_path / "spec.yaml"))).key())
    assert len(keys) == 3
    with pytest.raises(ConfigError, match=r"data\.action_spec: .*gone\.yaml does not exist"):
        open_source(replace(case.config, action_spec="gone.yaml")).key()


def test_what_cuts_clips_needs_no_new_recording(case: Case) -> None:
    other = replace(case.config, camera="side", image_size=8, frame_skip=5, actions="first", split_seed=3)
    assert open_source(other).recorded == case.source.recorded
    renamed = replace(case.config, features=("action=actions",))
    assert open_source(renamed).recorded != case.source.recorded


@pytest.mark.parametrize("name", ["lerobot", "rlds", "hdf5"])
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    source = open_source(DataConfig(RECORDED[name](tmp_path, 2)))
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".parquet", ".hdf5") or "tfrecord" in path.name]
    for path in files:
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError) as error:
        source.open(tmp_path).actions(0)
    assert any(path.name in str(error.value) for path in files)


@pytest.mark.parametrize("scheme", ["lerobot", "rlds", "hdf5"])
def test_a_place_that_is_not_there_is_named(scheme: str, tmp_path: Path) -> None:
    source = open_source(DataConfig(f"{scheme}:{tmp_path / 'gone'}"))
    assert source.size() is None
    assert source.key() == str(tmp_path / "gone")
    with pytest.raises(DataError, match=r"gone.* does not exist"):
        source.open(tmp_path)


# ---------------------------------------------------------------------------------------------------- URIs and plug-ins


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("lerobot:a/b", ("lerobot", "a/b")),
        ("hf://datasets/a/b@v1:x", ("hf", "//datasets/a/b@v1:x")),
        ("mine.py:Robot:a:b", ("mine.py:Robot", "a:b")),
        ("mine.py:Robot", ("", "mine.py:Robot")),
        ("a/b", ("", "a/b")),
    ],
)
def test_a_uri_is_a_scheme_and_a_location(uri: str, parts: tuple[str, str]) -> None:
    assert split_uri(uri) == parts


def test_what_leads_nowhere_lists_what_there_is(tmp_path: Path) -> None:
    for uri in ("/some/folder", "mine.py:Robot"):
        with pytest.raises(ConfigError, match=r"has no scheme\. Write one of .*lerobot:"):
            open_source(DataConfig(uri))
    with pytest.raises(UnknownName, match=r"'zarr'.*lerobot"):
        open_source(DataConfig("zarr:/some/folder"))
    with pytest.raises(ConfigError, match="no simulator 'kitchen'; the embedded one is sim:tabletop"):
        open_source(DataConfig("sim:kitchen"))
    with pytest.raises(ConfigError, match=r"data\.uri is empty"):
        open_source(DataConfig("")).open(tmp_path)


def test_a_folder_in_place_is_left_as_it_is(dataset: EpisodeDataset, tmp_path: Path) -> None:
    opened = open_source(DataConfig(f"lerobot:{dataset.root}")).open(tmp_path / "cache")
    assert opened.root == dataset.root
    assert not (tmp_path / "cache").exists()


def test_a_source_can_be_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES._entries))
    root = Foreign().write(tmp_path / "set")

    @SOURCES.register("mine")
    class Mine(Source):
        def open(self, root: Path, progress: object = None) -> EpisodeDataset:
            return EpisodeDataset(tmp_path / self.place)

    assert open_source(DataConfig("mine:set")).open(tmp_path).root == root


def test_a_source_of_your_own_is_known_by_its_code(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    keys = [open_source(DataConfig(own(tmp_path / name, 2))).key() for name in "ab"]
    assert keys[0] == keys[1]
    (tmp_path / "b/numbers.py").write_text(OWN + "# edited\n")
    assert open_source(DataConfig(f"{tmp_path}/b/numbers.py:Numbers:{tmp_path}/b/values.txt")).key() != keys[0]


def test_the_simulator_alone_knows_the_truth(dataset: EpisodeDataset, tmp_path: Path) -> None:
    assert open_source(DataConfig(f"lerobot:{dataset.root}")).truth(dataset, 0, 2) is None
    pytest.importorskip("rslwm.sim.record", exc_type=ImportError)
    source = open_source(DataConfig(sim=SIM))
    recorded = source.open(tmp_path)
    truth = source.truth(recorded, 1, 2).state.vectors()
    for name, values in recorded.states(1).items():
        if name in truth:
            np.testing.assert_array_equal(truth[name], values[2])
    assert "gripper_position" in truth
