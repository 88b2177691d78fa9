"""Sanity rows in a study: what is known of them before comes out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from here import HERE
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.oracle import States
from rslwm.evals.planning import PlanningConfig
from rslwm.evals.rollouts import RolloutsConfig
from rslwm.evals.rows import Rows
from rslwm.plan.base import PlanConfig
from rslwm.run.stage import closure
from rslwm.serialisation import ConfigError
from rslwm.sim.config import SimConfig
from rslwm.study.compare import compare
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.record import RunRecord
from rslwm.study.stages.latents import LatentsStage
from rslwm.study.stages.metric import RolloutsStage
from rslwm.verdict.decide import Verdict
from studies import here, measuring, tiny


def test_a_recording_has_no_oracle(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="no simulator behind it"):
        Study(tiny(corpus, "oracle", "small-vae")).check(lambda stage: False)


def test_references_alone_are_no_study(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="name one"):
        Study(tiny(corpus, "copy-last")).check(lambda stage: False)


def test_a_reference_takes_no_adapter(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="leave \\+16 out"):
        _ = Study(tiny(corpus, "copy-last+16", "small-vae")).variants


def test_beside_them_a_space_keeps_its_keys(corpus: Corpus) -> None:
    alone, beside = (Study(tiny(corpus, *names)) for names in (["small-vae"], ["small-vae", "oracle", "copy-last"]))
    assert {*closure(alone.targets)} < {*closure(beside.targets)}
    assert [variant.entry.name for variant in beside.compared] == ["small-vae"]


def test_they_train_no_world_model(corpus: Corpus) -> None:
    references = Study(tiny(corpus, "truth-itself=oracle", "copy-last", "small-vae")).variants[:2]
    assert {v.row.family for v in references} == {"reference"}
    assert references[0].row.latent == "truth-itself"
    kinds = {stage.kind for v in references for stage in closure(v.targets)}
    assert not kinds & {"world-model", "decoder"}
    assert "encoder" not in {stage.kind for stage in closure(references[0].targets)}


# -------------------------------------------------------------------------------------------------- on the simulator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, Path, Rows]:
    """A study of a few short episodes, all stages in this process."""
    root = tmp_path_factory.mktemp("references")
    sim = SimConfig(episodes=8, image_size=32, min_steps=14, max_steps=16)
    data = DataConfig(uri="sim:tabletop", image_size=32, frame_skip=1, sim=sim, test_fraction=0.4)
    plan = PlanConfig(candidates=24, iterations=3, elites=6)
    evaluation = replace(
        measuring(), rollouts=RolloutsConfig(clips=4, future=4), planning=PlanningConfig(plan=plan, windows=12)
    )
    metrics = ("visual", "action_identification", "planning")
    config = replace(_small(data), latents=("small-vae", "oracle", "copy-last"), metrics=metrics, evaluation=evaluation)
    compare(config, root, jobs=1, executor=HERE)
    return config, root, Rows.load(root / "rows.parquet")


def _small(data: DataConfig) -> StudyConfig:
    return tiny(Corpus(None, None, data))  # type: ignore[arg-type]


def values(rows: Rows, latent: str, metric: str, role: str = "value") -> np.ndarray:
    chosen = rows.where((rows["latent"] == latent) & (rows["metric"] == metric) & (rows["role"] == role))
    assert len(chosen)
    return chosen["value"]


@pytest.mark.slow
def test_the_oracle_s_rollouts_are_what_was_recorded(run: tuple[StudyConfig, Path, Rows]) -> None:
    config, root, _ = run
    oracle, work = Study(config).variants[1], here(root).workspace
    rollouts, states = work.open(oracle.pull(RolloutsStage)), work.open(oracle.pull(LatentsStage))
    assert isinstance(states, States)
    found, true = (states.vectors(x)["gripper_position"] for x in (rollouts.generated, rollouts.true))
    assert (found - true).norm(dim=-1).max() < 1e-3
    assert (true - states.vectors(rollouts.context[:, -1:])["gripper_position"]).norm(dim=-1).mean() > 5e-3


@pytest.mark.slow
def test_the_oracle_plans_and_identifies(run: tuple[StudyConfig, Path, Rows]) -> None:
    rows = run[2]
    assert (values(rows, "oracle", "action_identification") == 1).all()
    planned, floor, ceiling = (
        values(rows, "oracle", "cem_error", role).mean() for role in ("value", "floor", "ceiling")
    )
    assert planned < (floor + ceiling) / 2


@pytest.mark.slow
def test_copy_last_is_its_own_floor(run: tuple[StudyConfig, Path, Rows]) -> None:
    rows = run[2]
    for metric in ("psnr", "ssim"):
        same = (
            values(rows, "copy-last", metric, role) for role in ("value", "floor")
        )  # but for batches of other sizes
        np.testing.assert_allclose(*same, rtol=1e-5)
    assert (values(rows, "copy-last", "action_identification") == 0.5).all()
    planned, floor = (values(rows, "copy-last", "cem_error", role) for role in ("value", "floor"))
    assert abs(planned.mean() - floor.mean()) < 3 * planned.std() / len(planned) ** 0.5


@pytest.mark.slow
def test_beside_them_a_space_keeps_its_rows_and_scores(run: tuple[StudyConfig, Path, Rows]) -> None:
    config, root, rows = run
    beside, record = Verdict.load(root / "verdict.json"), RunRecord.load(root)
    compare(replace(config, latents=("small-vae",)), root, jobs=1, executor=HERE)
    alone, again = Verdict.load(root / "verdict.json"), Rows.load(root / "rows.parquet")
    kept = rows.where(rows["latent"] == "small-vae")
    for column in kept.columns:
        np.testing.assert_array_equal(kept[column], again[column])
    assert [bar.latent for bar in beside.metrics[0].references] == ["oracle", "copy-last"]
    assert replace(beside, metrics=tuple(replace(m, references=()) for m in beside.metrics)) == alone
    assert [space.name for space in record.spaces] == ["small-vae"]
    assert [folder.name for folder in (root / "checkpoints").iterdir()] == ["small-vae"]
