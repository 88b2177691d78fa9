"""Studies of several sizes of the transformer: what follows from a size and a space, and that sizes are never mixed."""

from dataclasses import replace
from pathlib import Path

import pytest

from here import HERE
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.rows import Rows
from rslwm.latents.base import EncoderConfig
from rslwm.model.dit import SIZES, DiTConfig
from rslwm.model.world_model import WorldModelConfig
from rslwm.optim import OptimConfig
from rslwm.report.page import build_report
from rslwm.run.stage import closure
from rslwm.serialisation import ConfigError
from rslwm.study.compare import compare, comparisons
from rslwm.study.config import PRESETS, StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.world_model import ScalingConfig, scaled
from rslwm.types import LatentSpec
from studies import tiny

TINY = StudyConfig(
    latents=("small-vae",),
    data=DataConfig(image_size=32),
    encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4),
    world_model=WorldModelConfig(dit=DiTConfig(max_frames=3)),
)


def spec(side: int, channels: int) -> LatentSpec:
    return LatentSpec("some-space", "semantic", (side, side), channels)


def at(config: StudyConfig, side: int, channels: int, size: str = "") -> WorldModelConfig:
    return scaled(config.world_model, config.scaling, spec(side, channels), size)


@pytest.mark.parametrize(
    ("side", "channels", "patch", "wide_head"),
    [(32, 16, 2, 0), (16, 16, 1, 0), (16, 96, 1, 0), (16, 1024, 1, 2048), (16, 1152, 1, 2048)],
)
def test_the_papers_spaces_have_as_many_tokens_and_only_wide_ones_the_wide_head(
    side: int, channels: int, patch: int, wide_head: int
) -> None:
    dit = at(PRESETS["bridge"], side, channels, "S").dit
    assert (dit.patch, dit.wide_head) == (patch, wide_head)


def test_a_size_brings_its_shape_and_its_training_and_leaves_the_rest() -> None:
    config = PRESETS["bridge"]
    small, large = (at(config, 16, 16, size) for size in ("S", "L"))
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
    assert at(StudyConfig(), 8, 16) == StudyConfig().world_model


@pytest.mark.parametrize("side", [8, 12, 24])
def test_a_grid_that_does_not_give_the_tokens_is_refused(side: int) -> None:
    with pytest.raises(ConfigError, match=rf"scaling\.tokens is 256, but the {side}x{side} grid of some-space"):
        at(StudyConfig(scaling=ScalingConfig(tokens=256)), side, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ("S", "M")}, r"sizes: there is no size 'M'; sizes: S, B, L, XL"),
        ({"sizes": ("S", "S")}, r"sizes: 'S' occurs twice"),
        ({"scaling": ScalingConfig(optim={"huge": OptimConfig()})}, r"scaling\.optim: there is no size 'huge'"),
    ],
)
def test_sizes_that_do_not_exist_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = Study(replace(TINY, **change)).variants


def test_sizes_share_all_but_world_model_and_what_is_measured_of_it() -> None:
    parts = Study(replace(TINY, sizes=("S", "B"), seeds=2)).by_size()
    assert [(size, v.size, v.seed) for size, variants in parts.items() for v in variants] == [
        ("S", "S", 0),
        ("S", "S", 1),
        ("B", "B", 0),
        ("B", "B", 1),
    ]
    for small, large in zip(*parts.values(), strict=True):
        one, other = (set(closure(variant.targets)) for variant in (small, large))
        assert one - other == set(small.of_a_size)
        assert other - one == set(large.of_a_size)
        assert (small.row.size, large.row.size) == ("DiT-S", "DiT-B")


def test_every_size_is_a_comparison_of_its_own(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "S", DiTConfig(width=16, depth=1, heads=2))
    monkeypatch.setitem(SIZES, "B", DiTConfig(width=16, depth=2, heads=2))
    config = replace(tiny(corpus, "small-vae"), sizes=("S", "B"), metrics=("visual", "one_step"))
    verdicts = compare(config, tmp_path, executor=HERE)
    assert list(verdicts) == [tmp_path / "S", tmp_path / "B"]
    assert sorted(verdicts) == comparisons(tmp_path)
    for folder in verdicts:
        assert set(Rows.load(folder / "rows.parquet")["size"]) == {f"DiT-{folder.name}"}
        assert f"World models of size {folder.name}" in build_report(folder).read_text()
    assert {folder.name for folder in (tmp_path / "checkpoints").iterdir()} == {"small-vae-S", "small-vae-B"}
