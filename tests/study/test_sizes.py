"""Studies of several sizes of the transformer: what follows from a size and a space, and that sizes are never mixed."""

from dataclasses import replace
from pathlib import Path

import pytest

from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.config import EvalConfig
from rslwm.evals.probe import ProbeConfig
from rslwm.evals.rows import Rows
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.model.dit import SIZES, DiTConfig
from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.plan.base import PlanConfig
from rslwm.report.page import build_report
from rslwm.serialisation import ConfigError
from rslwm.study.compare import compare, comparisons
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Builder
from rslwm.study.presets import PRESETS
from rslwm.study.stages.world_model import ScalingConfig, scaled
from rslwm.types import LatentSpec

OPTIM = OptimConfig(steps=2, batch_size=4, warmup=1)
TINY = StudyConfig(
    latents=("small-vae",),
    data=DataConfig(image_size=32),
    encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4, min_rank=0.0, optim=OPTIM),
    decoder=DecoderConfig(width=16, optim=OPTIM),
    world_model=WorldModelConfig(dit=DiTConfig(max_frames=3), optim=OPTIM),
    evaluation=EvalConfig(
        clips=3,
        future=2,
        sampling=SamplingConfig(steps=1),
        encoder_windows=6,
        one_step_windows=4,
        plan=PlanConfig(candidates=4, iterations=1, elites=2, windows=2),
        probe=ProbeConfig(width=8, horizons=(1,), success_frames=7, optim=OPTIM),
    ),
    compute=ComputeConfig(device="cpu", dtype="float32"),
)


def spec(side: int, channels: int) -> LatentSpec:
    return LatentSpec("some-space", "semantic", (side, side), channels)


@pytest.mark.parametrize(
    ("side", "channels", "patch", "wide_head"),
    [(32, 16, 2, 0), (16, 16, 1, 0), (16, 96, 1, 0), (16, 1024, 1, 2048), (16, 1152, 1, 2048)],
)
def test_the_papers_spaces_have_as_many_tokens_and_only_wide_ones_the_wide_head(
    side: int, channels: int, patch: int, wide_head: int
) -> None:
    dit = scaled(PRESETS["bridge"], spec(side, channels), "S").dit
    assert (dit.patch, dit.wide_head) == (patch, wide_head)


def test_a_size_brings_its_shape_and_its_training_and_leaves_the_rest() -> None:
    config = PRESETS["bridge"]
    small, large = (scaled(config, spec(16, 16), size) for size in ("S", "L"))
    assert (large.dit.width, large.dit.depth, large.dit.heads) == (1024, 24, 16)
    assert large.dit.max_frames == small.dit.max_frames == 10
    # Table 6 of the paper: 80 epochs of batches of 5 clips on 4 GPUs, 100 of 16.
    assert (large.optim.batch_size * large.optim.accumulate, small.optim.batch_size * small.optim.accumulate) == (
        20,
        64,
    )
    assert large.optim.steps * 20 == pytest.approx(80 * 51_000, rel=1e-3)
    assert small.optim.steps * 64 == pytest.approx(100 * 51_000, rel=2e-3)
    assert large.flow == small.flow == config.world_model.flow


def test_without_sizes_the_world_model_is_the_configured_one() -> None:
    config = StudyConfig()
    assert scaled(config, spec(8, 16)) == config.world_model


@pytest.mark.parametrize("side", [8, 12, 24])
def test_a_grid_that_does_not_give_the_tokens_is_refused(side: int) -> None:
    config = StudyConfig(scaling=ScalingConfig(tokens=256))
    with pytest.raises(ConfigError, match=rf"scaling\.tokens is 256, but the {side}x{side} grid of some-space"):
        scaled(config, spec(side, 16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ("S", "M")}, r"sizes: there is no size 'M'; sizes: S, B, L, XL"),
        ({"sizes": ("S", "S")}, r"sizes: 'S' occurs twice"),
        ({"scaling": ScalingConfig(optim={"huge": OPTIM})}, r"scaling\.optim: there is no size 'huge'"),
    ],
)
def test_sizes_that_do_not_exist_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Builder(replace(TINY, **change)).build()


def test_sizes_share_all_but_world_model_and_rows() -> None:
    study = Builder(replace(TINY, sizes=("S", "B"), seeds=2)).build()
    small, large = (part.spaces for part in study.by_size().values())
    assert [space.size for space in (*small, *large)] == ["S", "S", "B", "B"]
    for a, b in zip(small, large, strict=True):
        shared = {name for name in vars(a) if vars(a)[name] == vars(b)[name]}
        assert set(vars(a)) - shared == {"size", "world_model", "rows"}
        assert (a.rows.config.label.size, b.rows.config.label.size) == ("DiT-S", "DiT-B")


@pytest.mark.slow
def test_every_size_is_a_comparison_of_its_own(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "S", DiTConfig(width=16, depth=1, heads=2))
    monkeypatch.setitem(SIZES, "B", DiTConfig(width=16, depth=2, heads=2))
    config = replace(TINY, data=corpus.config, sizes=("S", "B"))
    verdicts = compare(config, tmp_path, jobs=1)
    assert list(verdicts) == [tmp_path / "S", tmp_path / "B"]
    assert sorted(verdicts) == comparisons(tmp_path)
    for folder in verdicts:
        assert set(Rows.load(folder / "rows.parquet")["size"]) == {f"DiT-{folder.name}"}
        assert f"World models of size {folder.name}" in build_report(folder).read_text()
    assert {folder.name for folder in (tmp_path / "checkpoints").iterdir()} == {"small-vae-S", "small-vae-B"}
