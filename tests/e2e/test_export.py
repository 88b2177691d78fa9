"""Rollouts of a run for other people's tools."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rslwm.cli.main import FAILED, main
from rslwm.data.dataset import EpisodeDataset
from rslwm.export.rollouts import RunRollouts
from rslwm.types import Episode
from terminal import Run

CODEC = 6.0
"""Mean difference of an encoded and decoded frame, of 255."""
LEROBOT = os.environ.get("RSLWM_REAL_LEROBOT", "")
"""The Python of an environment with the real lerobot, see tests/data/test_real_lerobot.py."""
READS = Path(__file__).parents[1] / "data/real_lerobot.py"


@pytest.fixture(scope="module")
def rollouts(smoke: Run) -> RunRollouts:
    return RunRollouts(smoke.folder)


@pytest.fixture(scope="module")
def episodes(rollouts: RunRollouts) -> list[Episode]:
    return [*rollouts.episodes()]


@pytest.fixture(scope="module")
def exported(smoke: Run, tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    folder = tmp_path_factory.mktemp("exported") / "rollouts"
    assert main(["export", "lerobot", str(smoke.folder), "--out", str(folder)]) == 0
    return EpisodeDataset(folder)


def test_every_space_is_a_camera_beside_the_truth(exported: EpisodeDataset, rollouts: RunRollouts) -> None:
    assert len(exported) == len(rollouts)
    assert exported.cameras == ["truth", *(f"imagined_{name.replace('+', '-')}" for name in rollouts.spaces)]


def test_frames_are_those_of_the_run_within_codec_error(exported: EpisodeDataset, episodes: list[Episode]) -> None:
    for number, episode in enumerate(episodes[:2]):
        for camera, shown in episode.frames.items():
            assert np.abs(exported.frames(number, camera).astype(int) - shown).mean() < CODEC


def test_spaces_imagine_different_futures_of_the_same_context(episodes: list[Episode]) -> None:
    context = episodes[0].info["context"]
    true, one, other, *_ = episodes[0].frames.values()
    assert np.array_equal(true[:context], one[:context])
    assert not np.array_equal(one[context:], other[context:])
    assert not np.array_equal(true[context:], one[context:])


def test_actions_are_in_units_and_beside_them_those_read_back(
    exported: EpisodeDataset, rollouts: RunRollouts, episodes: list[Episode]
) -> None:
    asked, states = exported.actions(0), exported.states(0)
    assert np.allclose(asked, episodes[0].actions, atol=1e-6)
    assert exported.spec == rollouts.spec
    assert (np.abs(asked) <= np.maximum(np.abs(rollouts.spec.low), rollouts.spec.high) + 1e-6).all()
    read = [name for name in states if name.startswith("read_back_")]
    assert len(read) == len(rollouts.spaces)
    assert all(states[name].shape == asked.shape for name in read)


def test_a_recording_of_rerun_holds_every_camera_and_number(
    smoke: Run, episodes: list[Episode], tmp_path: Path
) -> None:
    reader = pytest.importorskip("rerun.chunk", reason="needs the extra rerun")
    file = tmp_path / "rollouts.rrd"
    assert main(["export", "rerun", str(smoke.folder), "--out", str(file)]) == 0
    found = str(reader.RrdReader(file).store().schema())
    for name in ("action", *episodes[0].frames, *episodes[0].states):
        assert f"/{name}:" in found


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "lerobot", str(tmp_path), "--out", str(tmp_path / "out")]) == FAILED
    assert "config.yaml does not exist; name a folder that `rslwm compare`" in capsys.readouterr().err


@pytest.mark.skipif(not LEROBOT, reason="RSLWM_REAL_LEROBOT names no Python of an environment with the real lerobot")
def test_the_real_lerobot_reads_what_was_written(
    exported: EpisodeDataset, rollouts: RunRollouts, episodes: list[Episode], tmp_path: Path
) -> None:
    file = tmp_path / "read.npz"
    words = [LEROBOT, str(READS), "read", json.dumps({"root": str(exported.root), "out": str(file)})]
    run = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["lengths"] == [len(episode) for episode in episodes]
    assert said["tasks"] == [episode.instruction for episode in episodes for _ in range(len(episode))]
    assert len(said["cameras"]) == 1 + len(rollouts.spaces)
    read = np.load(file)
    assert np.allclose(read["action"], np.concatenate([episode.actions for episode in episodes]), atol=1e-6)
    for camera in episodes[0].frames:
        wanted = np.concatenate([episode.frames[camera] for episode in episodes])
        assert np.abs(read[f"observation.images.{camera}"].transpose(0, 2, 3, 1).astype(int) - wanted).mean() < CODEC
