"""What is known about a checkpoint from its folder and its place."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import point_world
from rslwm.compute import generator
from rslwm.data.config import DataConfig
from rslwm.data.corpus import SeenEpisodes
from rslwm.data.lerobot import write_lerobot
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.run.runner import StageFailed
from rslwm.serialisation import ConfigError
from rslwm.study.checkpoint import clip_settings, evaluate, open_corpus, run_folder, train_world_models
from rslwm.types import DataError
from studies import tiny


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


# ----------------------------------------------------------------------------------------------- what it has seen


@pytest.fixture
def checkpoint(corpus, plugin, tmp_path):
    """Trained on the training episodes of the point world, as it says."""
    decoder = DecoderConfig(width=16)
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", corpus.config.image_size, decode=True, decoder=decoder))
    config = WorldModelConfig(dit=DiTConfig(width=24, depth=1, heads=1, patch=1, max_frames=3))
    drawn = generator(0, "weights")
    model = WorldModel(space, corpus.action_spec, config, drawn, corpus.dataset.fingerprint, corpus.config)
    model.seen = SeenEpisodes.of(corpus)
    model.save(tmp_path / "trained")
    return tmp_path / "trained"


def recorded(root, numbers, corpus) -> DataConfig:
    """These of the point world's episodes as a data set of another name for each."""
    episodes = (replace(point_world.episode(i, bool(i % 2)), id=f"renamed-{i}") for i in numbers)
    write_lerobot(episodes, root, point_world.SPEC, state_names=point_world.STATE_NAMES)
    return replace(corpus.config, uri=f"lerobot:{root}")


def measured(checkpoint, data, corpus, out, seen=False):
    config = tiny(corpus)
    all_windows = ("one_step[windows=999]",)
    return evaluate(checkpoint, replace(config, data=data, metrics=all_windows), out, seen=seen)


@pytest.mark.usefixtures("in_this_process")
def test_what_a_model_was_trained_on_is_not_measured_under_other_names(checkpoint, corpus, tmp_path):
    data = recorded(tmp_path / "set", range(16), corpus)
    result, known = measured(checkpoint, data, corpus, tmp_path / "out")
    assert known
    assert not {int(name.removeprefix("renamed-")) for name in result.rows["unit"]} & set(corpus.train)
    asked, _ = measured(checkpoint, data, corpus, tmp_path / "out", seen=True)
    assert set(asked.rows["unit"]) == {*result.rows["unit"], *known}


@pytest.mark.usefixtures("in_this_process")
def test_a_copy_of_training_episodes_is_refused_before_anything_is_trained(checkpoint, corpus, tmp_path):
    data = recorded(tmp_path / "set", corpus.train, corpus)
    with pytest.raises(DataError, match=r"trained was trained on all 8 episodes of .*set\. .*--seen"):
        measured(checkpoint, data, corpus, tmp_path / "out")
    assert {path.name.split("-")[0] for path in (tmp_path / "out/stages").iterdir()} == {"data", "frames"}


@pytest.mark.usefixtures("in_this_process")
def test_weights_that_have_seen_what_is_held_out_are_no_start(checkpoint, corpus, plugin, tmp_path):
    config = tiny(corpus, f"own={plugin}:PatchMean")
    model = replace(config.world_model, init=str(checkpoint))
    turned = replace(config, world_model=model, data=replace(config.data, split_seed=6))
    with pytest.raises(StageFailed, match=r"world_model\.init: .*trained was trained on \d of the 4 .*held out here"):
        train_world_models(turned, tmp_path / "out", jobs=1)
