"""What is known about a checkpoint from its folder and its place."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rslwm.config import DataConfig
from rslwm.study.checkpoint import clip_settings, run_folder
from rslwm.types import DataError


def test_clips_are_cut_as_in_training_from_other_episodes(tmp_path):
    trained = DataConfig(uri="lerobot:here", frame_skip=3, test_fraction=0.5)
    model = SimpleNamespace(data=trained)
    assert clip_settings(model, tmp_path) == trained
    assert clip_settings(model, tmp_path, "lerobot:there") == replace(trained, uri="lerobot:there")


def test_a_checkpoint_that_does_not_say_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"config.yaml: field 'data' is missing"):
        clip_settings(SimpleNamespace(data=None), tmp_path, "lerobot:there")


def test_the_run_of_a_checkpoint_is_found_unless_it_has_moved(tmp_path):
    (tmp_path / "run/stages").mkdir(parents=True)
    assert run_folder(tmp_path / "run/checkpoints/small-vae", tmp_path / "out") == tmp_path / "run"
    assert run_folder(tmp_path / "elsewhere/checkpoints/small-vae", tmp_path / "out") == tmp_path / "out"
