"""Several cameras on the whole road, and world models that start from another one's weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.config import EvalConfig
from rslwm.evals.probe import ProbeConfig
from rslwm.evals.replay import replay
from rslwm.evals.rows import Rows
from rslwm.latents.adapters.base import AdapterConfig
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.views import one_view
from rslwm.model.dit import DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig
from rslwm.run.stage import Stage, Workspace, closure
from rslwm.serialisation import ConfigError
from rslwm.study.checkpoint import measure
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Builder, Study
from rslwm.study.stages import read_facts
from rslwm.types import AXES
from two_views import SIZE, open_corpus, write_dataset

OPTIM = OptimConfig(steps=2, batch_size=8, warmup=1)
SAMPLING = SamplingConfig(steps=1)
TINY = StudyConfig(
    latents=("small-vavae", "small-dino+4"),
    encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4, min_rank=0.0, optim=OPTIM),
    adapter=AdapterConfig(heads=2, optim=OPTIM),
    decoder=DecoderConfig(width=16, optim=OPTIM),
    world_model=WorldModelConfig(dit=DiTConfig(width=32, depth=1, heads=2, max_frames=3), optim=OPTIM),
    evaluation=EvalConfig(
        clips=3,
        future=2,
        sampling=SAMPLING,
        encoder_windows=6,
        one_step_windows=6,
        plan=PlanConfig(candidates=4, iterations=1, elites=2, windows=2, sampling=SAMPLING),
        probe=ProbeConfig(width=8, horizons=(1,), success_frames=7, optim=OPTIM),
    ),
    compute=ComputeConfig(device="cpu", dtype="float32"),
)
Run = tuple[Study, dict[Stage, Path]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("views")
    return open_corpus(write_dataset(root / "set"), "front,side", root / "frames")


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every stage of a study of two spaces on two cameras, in this process."""
    study, root = Builder(replace(TINY, data=corpus.config)).build(), tmp_path_factory.mktemp("run")
    folders: dict[Stage, Path] = {}
    for stage in closure(study.targets):
        folders[stage] = root / f"{stage.kind}-{stage.key}"
        folders[stage].mkdir()
        stage.run(Workspace(stage.config, [folders[s] for s in stage.inputs], folders[stage]))
    return study, folders


def test_latents_of_two_cameras_are_twice_as_wide(finished: Run, corpus: Corpus) -> None:
    study, folders = finished
    for space in study.spaces:
        model = WorldModel.load(folders[space.world_model] / "checkpoint")
        store = TensorStore(folders[space.latents] / "store")
        assert (model.config.dit.views, model.space.config.views, model.space.spec.grid) == (2, 2, (4, 8))
        key = store.keys[0]
        assert store.shape(key)[1:] == (4, 8, 4)
        with torch.no_grad():
            encoded = model.encode(corpus.frames[key][None].float() / 255)[0]
        torch.testing.assert_close(store[key].float(), encoded, rtol=0.02, atol=0.02)


def test_stored_latents_are_normalised_over_all_views(finished: Run, corpus: Corpus) -> None:
    study, folders = finished
    for space in study.spaces:
        store = TensorStore(folders[space.latents] / "store")
        train = torch.cat([store[corpus.dataset.ids[e]].float() for e in corpus.train])
        torch.testing.assert_close(train.flatten(0, -2).mean(0), torch.zeros(4), rtol=0, atol=0.02)
        torch.testing.assert_close(train.flatten(0, -2).std(0), torch.ones(4), rtol=0.02, atol=0)
        assert (one_view(train, 0, 2) - one_view(train, 1, 2)).abs().mean() > 0.1


def test_every_axis_is_measured_and_clips_show_both_views(finished: Run) -> None:
    study, folders = finished
    for space in study.spaces:
        rows = Rows.load(folders[space.rows] / "rows.parquet")
        assert set(rows.distinct("axis")) == set(AXES)
        assert {"psnr", "ssim", "gripper_error", "object_error", "success_auc"} <= set(rows.distinct("metric"))
        clips = load_file(folders[space.rows] / "clips.safetensors")
        assert clips["frames"].shape == clips["truth"].shape == (3, 4, SIZE, 2 * SIZE, 3)


def test_a_checkpoint_rolls_out_wide_frames(finished: Run, corpus: Corpus) -> None:
    study, folders = finished
    model = WorldModel.load(folders[study.spaces[0].world_model] / "checkpoint")
    result = replay(model, corpus, TINY.evaluation, TINY.compute)
    assert result.rollout.shape[2:] == (SIZE, 2 * SIZE, 3)
    assert result.latents.shape[2:] == (4, 8, 4)


def test_a_checkpoint_is_not_measured_on_another_number_of_cameras(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    study, folders = finished
    checkpoint, data = folders[study.spaces[0].world_model] / "checkpoint", replace(corpus.config, camera="side")
    with pytest.raises(ConfigError, match=r"data\.camera 'side' is 1 camera\(s\), but the checkpoint was trained on 2"):
        measure(checkpoint, data, TINY.evaluation, TINY.compute, tmp_path)


def test_the_number_of_cameras_decides_the_transformers_views() -> None:
    def built(camera: str, views: int = 1) -> int:
        world_model = replace(TINY.world_model, dit=replace(TINY.world_model.dit, views=views))
        config = replace(TINY, data=DataConfig(camera=camera, image_size=32), world_model=world_model)
        return Builder(config).build().spaces[0].world_model.config.world_model.dit.views

    assert [built(""), built("front"), built("front,side"), built("front,side,wrist", views=3)] == [1, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"dit\.views is 3, but data\.camera 'front,side' is 2 camera\(s\)"):
        built("front,side", views=3)
    with pytest.raises(ConfigError, match=r"dit\.views is 2, but data\.camera '' is 1 camera\(s\)"):
        built("", views=2)


def test_another_camera_moves_everything_but_the_recording() -> None:
    def keys(camera: str) -> list[str]:
        study = Builder(replace(TINY, data=DataConfig(camera=camera, image_size=32))).build()
        return [stage.key for stage in closure(study.targets)]

    one, two, swapped = (keys(camera) for camera in ("front", "front,side", "side,front"))
    assert set(one) & set(two) == set(two) & set(swapped) == {one[0]}


# ------------------------------------------------------------------------------------------------------------ transfer


def test_a_studys_world_model_starts_from_a_checkpoint_and_says_so(
    finished: Run, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, folders = finished
    space = study.spaces[0]
    checkpoint = folders[space.world_model] / "checkpoint"
    untrained = replace(TINY.world_model, init=str(checkpoint), optim=replace(OPTIM, steps=0))
    stage = Builder(replace(TINY, data=corpus.config, world_model=untrained)).build().spaces[0].world_model
    stage.run(Workspace(stage.config, [folders[s] for s in stage.inputs], tmp_path))
    weights, started = (load_file(f / "model.safetensors") for f in (checkpoint, tmp_path / "checkpoint"))
    assert all(torch.equal(value, started[name]) for name, value in weights.items())
    assert f"starts from weights of {checkpoint}" in capsys.readouterr().out
    assert read_facts(tmp_path)["start"].startswith(f"weights of {checkpoint}")


def test_the_key_of_a_world_model_follows_the_content_of_where_it_starts(tmp_path: Path) -> None:
    def space(init: str = "") -> dict[str, str]:
        built = Builder(replace(TINY, world_model=replace(TINY.world_model, init=init))).build().spaces[0]
        return {name: getattr(built, name).key for name in ("latents", "decoder", "probes", "world_model", "rows")}

    (tmp_path / "model.safetensors").write_bytes(b"one")
    random, before = space(), space(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other")
    after = space(str(tmp_path))
    for one, other in ((random, before), (before, after)):
        assert {name for name, key in one.items() if other[name] != key} == {"world_model", "rows"}


def test_a_start_that_is_no_checkpoint_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"world_model\.init: .*nowhere holds no model\.safetensors"):
        Builder(replace(TINY, world_model=replace(TINY.world_model, init=str(tmp_path / "nowhere"))))
