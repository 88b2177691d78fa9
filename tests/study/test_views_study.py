"""Several cameras on the whole road, and world models that start from another one's weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.replay import replay
from rslwm.latents.views import one_view
from rslwm.model.dit import DiTConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.run.stage import Stage, Workspace, closure
from rslwm.serialisation import ConfigError
from rslwm.study.checkpoint import evaluate
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.latents import LatentsStage
from rslwm.study.stages.metric import CLIPS, RolloutsStage
from rslwm.study.stages.world_model import CHECKPOINT, WorldModelStage
from rslwm.study.subjects import Variant
from rslwm.types import AXES
from studies import OPTIM, rows_of, run, tiny
from two_views import SIZE, open_corpus, write_dataset

LATENTS = ("small-vavae", "small-dino+4")
Run = tuple[Study, Workspace]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("views")
    return open_corpus(write_dataset(root / "set"), "front,side", root / "frames")


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every stage of a study of two spaces on two cameras."""
    study = Study(tiny(corpus, *LATENTS))
    return study, run(study.targets, tmp_path_factory.mktemp("run"))


def test_latents_of_two_cameras_are_twice_as_wide(finished: Run, corpus: Corpus) -> None:
    study, work = finished
    for variant in study.variants:
        model, store = work.open(variant.pull(WorldModelStage)), work.open(variant.pull(LatentsStage))
        assert (model.config.dit.views, model.space.config.views, model.space.spec.grid) == (2, 2, (4, 8))
        key = store.keys[0]
        assert store.shape(key)[1:] == (4, 8, 4)
        with torch.no_grad():
            encoded = model.encode(corpus.frames[key][None].float() / 255)[0]
        torch.testing.assert_close(store[key].float(), encoded, rtol=0.02, atol=0.02)


def test_stored_latents_are_normalised_over_all_views(finished: Run, corpus: Corpus) -> None:
    study, work = finished
    for variant in study.variants:
        store = work.open(variant.pull(LatentsStage))
        train = torch.cat([store[corpus.dataset.ids[e]].float() for e in corpus.train])
        torch.testing.assert_close(train.flatten(0, -2).mean(0), torch.zeros(4), rtol=0, atol=0.02)
        torch.testing.assert_close(train.flatten(0, -2).std(0), torch.ones(4), rtol=0.02, atol=0)
        assert (one_view(train, 0, 2) - one_view(train, 1, 2)).abs().mean() > 0.1


def test_every_axis_is_measured_and_clips_show_both_views(finished: Run) -> None:
    study, work = finished
    for variant in study.variants:
        rows = rows_of(variant, work)
        assert set(rows.distinct("axis")) == set(AXES)
        assert {"psnr", "ssim", "gripper_error", "object_error", "success_auc"} <= set(rows.distinct("metric"))
        clips = load_file(work.folder(variant.pull(RolloutsStage)) / CLIPS)
        assert clips["frames"].shape == clips["truth"].shape == (3, 4, SIZE, 2 * SIZE, 3)


def test_a_checkpoint_rolls_out_wide_frames(finished: Run, corpus: Corpus) -> None:
    study, work = finished
    model = work.open(study.variants[0].pull(WorldModelStage))
    result = replay(model, corpus, study.config.evaluation.rollouts, study.compute, seed=0)
    assert result.rollout.shape[2:] == (SIZE, 2 * SIZE, 3)
    assert result.latents.shape[2:] == (4, 8, 4)


def test_a_checkpoint_is_not_measured_on_another_number_of_cameras(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    (study, work), data = finished, replace(corpus.config, camera="side")
    checkpoint = work.folder(study.variants[0].pull(WorldModelStage)) / CHECKPOINT
    with pytest.raises(ConfigError, match=r"data\.camera 'side' is 1 camera\(s\), but the checkpoint was trained on 2"):
        evaluate(checkpoint, StudyConfig(data=data, compute=study.compute), tmp_path)


def test_the_number_of_cameras_decides_the_transformers_views() -> None:
    def built(camera: str, views: int = 1) -> int:
        config = StudyConfig(data=DataConfig(camera=camera), world_model=WorldModelConfig(dit=DiTConfig(views=views)))
        return Study(config).variants[0].pull(WorldModelStage).settings.dit.views

    assert [built(""), built("front"), built("front,side"), built("front,side,wrist", views=3)] == [1, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"dit\.views is 3, but data\.camera 'front,side' is 2 camera\(s\)"):
        built("front,side", views=3)
    with pytest.raises(ConfigError, match=r"dit\.views is 2, but data\.camera '' is 1 camera\(s\)"):
        built("", views=2)


def test_another_camera_moves_everything_but_the_recording() -> None:
    def stages(camera: str) -> set[Stage]:
        return set(closure(Study(StudyConfig(latents=LATENTS, data=DataConfig(camera=camera))).targets))

    one, two, swapped = (stages(camera) for camera in ("front", "front,side", "side,front"))
    assert {stage.kind for stage in one & two} == {stage.kind for stage in two & swapped} == {"data"}


# ------------------------------------------------------------------------------------------------------------ transfer


def starting_at(init: Path | str, config: StudyConfig, **changes: Any) -> Variant:
    model = replace(config.world_model, init=str(init), **changes)
    return Study(replace(config, world_model=model)).variants[0]


def test_a_studys_world_model_starts_from_a_checkpoint_and_says_so(
    finished: Run, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    study, work = finished
    checkpoint = work.folder(study.variants[0].pull(WorldModelStage)) / CHECKPOINT
    stage = starting_at(checkpoint, study.config, optim=replace(OPTIM, steps=0)).pull(WorldModelStage)
    run([stage], work.root)
    weights, started = (load_file(f / "model.safetensors") for f in (checkpoint, work.folder(stage) / CHECKPOINT))
    assert all(torch.equal(value, started[name]) for name, value in weights.items())
    assert f"starts from weights of {checkpoint}" in capsys.readouterr().out
    assert work.facts(stage)["start"].startswith(f"weights of {checkpoint}")


def test_the_key_of_a_world_model_follows_the_content_of_where_it_starts(tmp_path: Path) -> None:
    def stages(init: Path | str = "") -> set[Stage]:
        return set(closure(starting_at(init, StudyConfig(latents=LATENTS)).targets))

    (tmp_path / "model.safetensors").write_bytes(b"one")
    random, before = stages(), stages(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    after = stages(tmp_path)
    for one, other in ((random, before), (before, after)):
        assert {stage.kind for stage in one - other} == {"world-model", "rollouts", "metric"}
        assert "metric" not in {stage.kind for stage in one & other}


def test_a_start_that_is_no_checkpoint_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"world_model\.init: .*nowhere holds no model\.safetensors"):
        starting_at(tmp_path / "nowhere", StudyConfig())
