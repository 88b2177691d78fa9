"""What is taken away from a drive opens elsewhere."""

import io
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest

from grounds import drawn, ground
from rslwm.data.dataset import EpisodeDataset
from rslwm.play import link
from rslwm.play.recording import lerobot, mp4
from rslwm.play.session import Session
from rslwm.types import DataError


@pytest.fixture
def session(plugin: Path) -> Session:
    session = Session(ground(plugin))
    for action in drawn(3):
        session.step(action)
    return session


@pytest.fixture
def dataset(session: Session, tmp_path: Path) -> EpisodeDataset:
    zipfile.ZipFile(io.BytesIO(lerobot(session))).extractall(tmp_path)
    return EpisodeDataset(tmp_path / "drive")


def test_a_film_shows_every_frame_of_all_panes_side_by_side(session: Session) -> None:
    with av.open(io.BytesIO(mp4(session))) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 4
    height, width = frames[0].shape[:2]
    assert width == 2 * height >= 256
    truth = session.here.shown[0].frame.repeat(8, 0).repeat(8, 1)
    assert np.abs(frames[-1][:, :height].astype(int) - truth).mean() < 4


def test_an_episode_holds_the_actions_in_units(session: Session, dataset: EpisodeDataset) -> None:
    assert len(dataset) == 1
    done = session.ground.spec.denormalise(link.meant(session.actions()))
    assert np.allclose(dataset.actions(0)[:3], done, atol=1e-6)
    assert dataset.spec == session.ground.spec


def test_an_episode_holds_what_was_imagined_and_what_was_true(session: Session, dataset: EpisodeDataset) -> None:
    for number, camera in enumerate(("truth", "imagined_tiny-0")):
        frames = dataset.frames(0, camera)
        wanted = np.stack([node.shown[number].frame for node in session.history.path()])
        assert np.abs(frames.astype(int) - wanted).mean() < 4
    true = np.stack([node.shown[0].truth["gripper_position"] for node in session.history.path()])
    assert np.allclose(dataset.states(0)["gripper_position"], true)


def test_an_episode_says_how_it_is_driven_again(session: Session, dataset: EpisodeDataset) -> None:
    assert dataset.info[0]["link"] == session.link


def test_a_drive_of_no_action_is_no_episode(session: Session) -> None:
    session.go(0)
    with pytest.raises(DataError, match="at least one action"):
        lerobot(session)
