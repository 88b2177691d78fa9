"""What a study would take, told without running it and without weights."""

from dataclasses import replace
from pathlib import Path

import pytest

from rslwm.cli.compare import estimate
from rslwm.data.corpus import Corpus
from rslwm.evals.base import METRICS
from rslwm.flops import training_disk
from rslwm.latents.space import LatentSpace, open_decoder
from rslwm.model.dit import DiT
from rslwm.serialisation import ConfigError
from rslwm.study.config import FROM_SCRATCH, PRESETS, DataSizeConfig, StudyConfig
from rslwm.study.estimate import Line, data_size, frame_costs
from rslwm.study.estimate import lines as estimated
from rslwm.study.graph import Study
from rslwm.study.stages.base import DataStage, Sizes
from rslwm.study.stages.decoder import DecoderStage, looking
from rslwm.study.stages.latents import SpaceStage
from rslwm.study.stages.world_model import ACTION_DIMS, WorldModelStage

TABLE_4 = {
    "sd3-vae": 1207.5,
    "cosmos-ci16": 465.9,
    "va-vae": 706.6,
    "vjepa2.1+96": 910.1,
    "vjepa2.1": 901.7,
    "web-dino+96": 911.2,
    "web-dino": 902.8,
    "siglip2+96": 969.5,
    "siglip2": 959.0,
}
"""Total GFLOPs of a 256 px frame with DiT-L, arXiv 2605.06388 Table 4."""

SMALL = replace(FROM_SCRATCH["demo"], latents=("small-vae", "small-dino+16"))


def lines(config: StudyConfig, frames: int = 1000) -> dict[tuple[str, str], Line]:
    return {(x.kind, x.space): x for x in estimated(Study(config), frames, lambda stage: False)}


@pytest.mark.slow
def test_frames_cost_what_the_paper_prints() -> None:
    study = Study(replace(PRESETS["bridge"], sizes=("L",)))
    costs = {name: cost.total / 1e9 for (name, _), cost in frame_costs(study).items()}
    assert costs == pytest.approx(TABLE_4, rel=0.05)


@pytest.mark.slow
def test_the_bridge_preset_is_estimated_without_data_and_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimate(replace(PRESETS["bridge"], sizes=("S",)), tmp_path / "run", jobs=0, gpu="A100", utilisation=0.5)
    printed = capsys.readouterr().out
    assert all(name in printed for name in TABLE_4)
    assert "one A100, 312 TFLOP/s in dense bfloat16, 50% of it used" in printed
    assert "60,000 episodes of 36 steps, assumed" in printed
    assert not (tmp_path / "run").exists()


def test_a_step_more_costs_a_step_more_and_a_frame_more_a_frame_more() -> None:
    base = lines(SMALL)
    model = SMALL.world_model
    longer = lines(replace(SMALL, world_model=replace(model, optim=replace(model.optim, steps=2 * model.optim.steps))))
    assert longer["world-model", "small-vae"].demand.flops == 2 * base["world-model", "small-vae"].demand.flops
    more = lines(SMALL, frames=2000)
    added = more["latents", "small-vae"].demand.disk - base["latents", "small-vae"].demand.disk
    assert added == 1000 * 8 * 8 * 16 * 2
    assert more["frames", "sim:tabletop"].demand.disk == 2000 * 64 * 64 * 3
    moved = {place for place in base if more[place].demand.flops != base[place].demand.flops}
    assert moved == {("features", "small-dino+16"), ("latents", "small-vae"), ("latents", "small-dino+16")}


def test_a_perceptual_distance_costs_its_network_three_times_a_frame() -> None:
    """VGG16's convolutions are 15.35 G multiply-adds of a 224 px image (Simonyan and Zisserman, 2014)."""
    assert looking("lpips-vgg", 224) / 2e9 == pytest.approx(15.35, abs=0.01)
    decoder = replace(SMALL.decoder, perceptual="lpips-vgg", perceptual_after=100)
    compared = lines(replace(SMALL, decoder=decoder))["decoder", "small-vae"].demand.flops
    frames = decoder.optim.steps * decoder.optim.batch_size - 100
    more = compared - lines(SMALL)["decoder", "small-vae"].demand.flops
    assert more == pytest.approx(frames * 3 * looking("lpips-vgg", 64))


def test_seeds_are_jobs_and_what_they_share_is_counted_once() -> None:
    found = lines(replace(SMALL, seeds=3))
    assert (found["world-model", "small-vae"].jobs, found["data", "sim:tabletop"].jobs) == (3, 1)
    assert found["metric", "small-vae"].jobs == 3 * sum(METRICS.get(name).core for name in METRICS)
    once = lines(SMALL)
    for kind in ("rollouts", "metric"):
        assert found[kind, "small-vae"].demand.flops == pytest.approx(3 * once[kind, "small-vae"].demand.flops)


def test_checkpointed_activations_save_memory_and_nothing_else() -> None:
    base = lines(SMALL)["world-model", "small-vae"]
    saving = lines(replace(SMALL, compute=replace(SMALL.compute, checkpoint_activations=True)))
    assert saving["world-model", "small-vae"].demand.memory < base.demand.memory
    assert saving["world-model", "small-vae"].demand.flops == base.demand.flops


@pytest.mark.parametrize("through", [0, 16])
def test_a_world_model_is_saved_with_its_space(through: int) -> None:
    config = replace(SMALL, latents=("small-dino",), decoder=replace(SMALL.decoder, through=through))
    (variant,) = Study(config).variants
    stage, sizes = variant.pull(WorldModelStage), Sizes(10)
    read = variant.pull(SpaceStage).settings
    if through:  # the encoder is on disk in the twin's place
        read = replace(read, channels=through, adapter=config.adapter)
    decoder = variant.pull(DecoderStage)
    whole = LatentSpace(read)
    pixels = open_decoder(config.decoder, whole.view_spec, read.image_size)
    space = sum(x.nbytes for part in (whole, pixels) for x in part.state_dict().values())
    dit = DiT(config.world_model.dit, stage.latents.spec.channels, ACTION_DIMS)
    weights = training_disk(config.world_model.optim, sum(p.numel() for p in dit.parameters()))
    assert stage.demand(sizes).disk == weights + space
    assert decoder.demand(sizes).disk >= space


def test_finished_stages_are_marked() -> None:
    study = Study(SMALL)
    data = study.variants[0].pull(DataStage)
    found = estimated(study, 10, lambda stage: stage == data)
    assert {line.kind: line.finished for line in found if line.finished} == {"data": 1}


def test_data_size_is_counted_where_it_is_and_assumed_where_it_is_not(corpus: Corpus) -> None:
    recorded = replace(SMALL, data=replace(SMALL.data, uri=f"lerobot:{corpus.dataset.root}"))
    found = data_size(Study(recorded))
    assert found == (12, int(corpus.dataset.lengths.sum()), True)
    simulated = data_size(Study(SMALL))
    assert simulated == (320, 320 * SMALL.data.sim.max_steps, False)
    absent = replace(SMALL, data=replace(SMALL.data, uri="rlds:/nowhere"))
    given = data_size(Study(replace(absent, data_size=DataSizeConfig(episodes=7, steps=30))))
    assert given == (7, 210, False)
    with pytest.raises(
        ConfigError, match=r"nobody knows yet how much data 'rlds:/nowhere' holds; .*data-size\.steps N"
    ):
        data_size(Study(absent))


@pytest.mark.parametrize(("gpu", "utilisation"), [("H1000", 0.2), ("H100", 0.0), ("H100", 1.5)])
def test_a_gpu_that_nobody_makes_is_refused(gpu: str, utilisation: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--gpu {gpu} --utilisation {utilisation:g}: one of B200, .*share up to 1"):
        estimate(SMALL, tmp_path, 0, gpu, utilisation)


def test_streaming_spares_the_disk_and_costs_the_encoder_at_every_step() -> None:
    stored, streamed = lines(SMALL, 9000), lines(replace(SMALL, stream_above_kb=0.1), 9000)
    assert streamed["features", "small-dino+16"].demand.disk < stored["features", "small-dino+16"].demand.disk / 2
    saved = stored["latents", "small-vae"].demand.disk - streamed["latents", "small-vae"].demand.disk
    assert saved == 9000 * 8 * 8 * 16 * 2
    encoder = frame_costs(Study(SMALL))["small-vae", ""].encoder
    model, decoder = SMALL.world_model, SMALL.decoder.optim
    for kind, frames in (
        ("world-model", model.optim.steps * model.optim.batch_size * model.dit.max_frames),
        ("decoder", decoder.steps * decoder.batch_size),
    ):
        more = streamed[kind, "small-vae"].demand.flops - stored[kind, "small-vae"].demand.flops
        assert more == pytest.approx(frames * encoder)
