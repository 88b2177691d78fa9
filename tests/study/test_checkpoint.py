"""What is known about a checkpoint from its folder and its place."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rslwm.config import DataConfig
from rslwm.latents.space import SpaceConfig
from rslwm.serialisation import ConfigError
from rslwm.study.checkpoint import clip_settings, open_corpus, run_folder
from rslwm.types import DataError


def test_clips_are_cut_as_in_training_from_other_episodes(tmp_path):
    trained = DataConfig(uri="lerobot:here", frame_skip=3, test_fraction=0.5)
    model = SimpleNamespace(data=trained)
    assert clip_settings(model, tmp_path) == trained
    assert clip_settings(model, tmp_path, "lerobot:there") == replace(trained, uri="lerobot:there")
    assert clip_settings(model, tmp_path, camera="wrist") == replace(trained, camera="wrist")


def test_a_checkpoint_that_does_not_say_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"config.yaml: field 'data' is missing"):
        clip_settings(SimpleNamespace(data=None), tmp_path, "lerobot:there")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig(camera="front"), r"data\.camera 'front' is 1 camera\(s\), but the checkpoint was trained on 2"),
        (DataConfig(camera="front,side", image_size=32), r"data\.image_size is 32; the checkpoint's is 64"),
    ],
)
def test_other_frames_than_the_models_are_refused(data, message, tmp_path):
    model = SimpleNamespace(space=SimpleNamespace(config=SpaceConfig("small-vae", image_size=64, views=2)))
    with pytest.raises(ConfigError, match=message):
        open_corpus(data, model, tmp_path)


def test_the_run_of_a_checkpoint_is_found_unless_it_has_moved(tmp_path):
    (tmp_path / "run/stages").mkdir(parents=True)
    assert run_folder(tmp_path / "run/checkpoints/small-vae", tmp_path / "out") == tmp_path / "run"
    assert run_folder(tmp_path / "elsewhere/checkpoints/small-vae", tmp_path / "out") == tmp_path / "out"
