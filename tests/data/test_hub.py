"""hf://datasets/OWNER/NAME, without a network: from the hub's cache as huggingface_hub lays it out."""

import shutil
import sys
from pathlib import Path

import pytest

from foreign import Foreign, shown, told
from rslwm.data.config import DataConfig
from rslwm.data.sources.lerobot import HubFolder
from rslwm.data.sources.opening import open_source
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.estimate import data_size
from rslwm.study.graph import Study
from rslwm.types import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds one revision of someone/pushes, and a hub that can't be reached."""
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = tmp_path / "hub/datasets--someone--pushes"
    snapshot = Foreign().write(folder / f"snapshots/{COMMIT}")
    Foreign(lengths=(4, 5)).write(snapshot / "small")
    for name in ("main", "v3.0"):
        (folder / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "refs" / name).write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


@pytest.mark.parametrize(
    "uri",
    [
        "hf://datasets/someone/pushes",
        "hf://datasets/someone/pushes@v3.0",
        f"hf://datasets/someone/pushes@{COMMIT}",
        "lerobot:hf://datasets/someone/pushes",
    ],
)
def test_a_set_in_the_hub_s_cache_opens_offline(cache: Path, uri: str, tmp_path: Path) -> None:
    dataset = open_source(DataConfig(uri)).open(tmp_path / "none")
    assert dataset.root == cache
    assert shown(dataset.frames(1, "front")) == told(dataset, 1)


def test_a_folder_inside_a_repository_opens(cache: Path, tmp_path: Path) -> None:
    assert len(open_source(DataConfig("hf://datasets/someone/pushes@v3.0/small")).open(tmp_path)) == 2


def test_what_is_asked_of_the_hub_is_the_named_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name: str, **options: str) -> str:
        asked.append((name, options))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert HubFolder("hf://datasets/someone/pushes@v2.1").local() == tmp_path
    assert asked == [("someone/pushes", {"repo_type": "dataset", "revision": "v2.1"})]


@pytest.mark.parametrize("uri", ["hf://datasets/someone/pushes", "lerobot:hf://datasets/someone/pushes@v3.0/small"])
def test_a_uri_on_the_hub_is_known_by_the_commit_that_it_names(cache: Path, uri: str) -> None:
    def key() -> str:
        return open_source(DataConfig(uri)).key()

    before = key()
    assert before.startswith(COMMIT)
    assert key() == open_source(DataConfig(f"{uri.partition('@')[0]}@{COMMIT}")).key()
    moved = COMMIT[::-1]
    shutil.copytree(cache, cache.with_name(moved))
    for ref in cache.parents[1].glob("refs/*"):
        ref.write_text(moved)
    assert key().startswith(moved)


def test_a_commit_that_nobody_knows_leaves_the_uri(cache: Path) -> None:
    uri = "hf://datasets/someone/other"
    assert open_source(DataConfig(uri)).key().startswith("//datasets/someone/other")


def test_a_set_on_the_hub_is_counted_by_its_metadata(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(cache / "data")
    shutil.rmtree(cache / "videos")
    found = data_size(Study(StudyConfig(data=DataConfig("hf://datasets/someone/pushes"))))
    assert found == (3, 28, True)
    with pytest.raises(ConfigError, match=r"holds \(.* can't be downloaded.*\); say so with --data-size\.episodes"):
        data_size(Study(StudyConfig(data=DataConfig("hf://datasets/someone/other"))))


def test_what_cannot_be_reached_is_said(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hf://datasets/someone/other can't be downloaded: .*network"):
        open_source(DataConfig("hf://datasets/someone/other")).open(tmp_path)


@pytest.mark.parametrize(
    "uri", ["hf://someone/pushes", "hf://datasets/pushes", "hf:someone/pushes", "hf://datasets/a/b@"]
)
def test_another_address_is_refused_with_the_form(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not hf://datasets/OWNER/NAME"):
        open_source(DataConfig(uri)).open(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"needs the package huggingface_hub: pip install"):
        open_source(DataConfig("hf://datasets/someone/pushes")).open(tmp_path)


def test_a_repository_of_something_else_is_refused(cache: Path, tmp_path: Path) -> None:
    shutil.rmtree(cache / "meta")
    with pytest.raises(DataError, match="is not a LeRobot data set"):
        open_source(DataConfig("hf://datasets/someone/pushes")).open(tmp_path)
