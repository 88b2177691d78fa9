"""The main job, end to end."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from rslwm.evals.rows import DTYPES, Rows
from rslwm.run.stage import RECORD, StageRecord
from rslwm.study.config import DEMO_LATENTS
from rslwm.types import AXES
from terminal import COMMAND, ENVIRONMENT, Run, rslwm

SAMPLE = Path(__file__).parents[2] / "../shared/data/bridge_sample"
SOME = ("--metrics", "gripper_readout,visual")
"""What is measured where it doesn't matter what: pictures and what a probe reads."""


def rows_of(run: Run, latent: str, like: Run | None = None) -> dict[str, list]:
    """Of one space; with ``like``, of the metrics that this one has."""
    rows = Rows.load(run.folder / "rows.parquet")
    rows = rows.where(rows["latent"] == latent)
    if like:
        rows = rows.where(np.isin(rows["metric"], Rows.load(like.folder / "rows.parquet").distinct("metric")))
    return {name: rows[name].tolist() for name in DTYPES if name not in ("value", "target")} | {
        name: rows[name].tobytes() for name in ("value", "target")
    }


def finished(stages: Path) -> dict[str, StageRecord]:
    """Records of the finished folders. A stage writes its record just before its folder gets its final name."""
    folders = [record.parent for record in stages.glob(f"*/{RECORD}") if record.parent.suffix != ".partial"]
    return {folder.name: StageRecord.read(folder) for folder in folders}


def test_smoke_runs_every_kind_of_stage_and_hardly_trains(smoke: Run):
    """What keeps it small enough for continuous integration: a few episodes, and four steps of every training."""
    stages = smoke.folder / "stages"
    kinds = {"data", "frames", "encoder", "features", "adapter", "space", "latents", "decoder", "world-model"}
    assert {record.kind for record in finished(stages).values()} == kinds | {"rollouts", "probe", "metric"}
    (data,) = stages.glob("data-*/facts.json")
    assert json.loads(data.read_text())["episodes"] == 16
    logs = [log.read_text().splitlines() for log in stages.rglob("train.jsonl")]
    spaces, adapted, probes = 6, 3, 4
    assert len(logs) == spaces * (3 + probes) + adapted  # encoder, decoder, world model; adapters
    assert {json.loads(lines[-1])["step"] for lines in logs} == {4}


def test_every_space_is_measured_on_every_axis(smoke: Run):
    rows = Rows.load(smoke.folder / "rows.parquet")
    measured = set(zip(rows["latent"], rows["axis"], strict=True))
    assert measured == {(latent, axis) for latent in DEMO_LATENTS for axis in AXES}
    assert np.isfinite(rows["value"]).all()


def test_the_terminal_shows_verdict_and_report(smoke: Run):
    assert all(latent in smoke.output for latent in DEMO_LATENTS)
    assert "Every space was trained once, so no winner is named" in smoke.output
    assert f"report: {smoke.folder / 'report/index.html'}" in smoke.output
    assert (smoke.folder / "report/index.html").stat().st_size > 10_000


def test_run_again_it_repeats_nothing_and_says_the_same(smoke: Run):
    before = (smoke.folder / "rows.parquet").read_bytes()
    with smoke.undisturbed:
        again = rslwm("compare", "smoke", out=smoke.folder)
    assert again.made == []
    assert (smoke.folder / "rows.parquet").read_bytes() == before
    assert again.output == smoke.output


def test_killed_in_the_middle_it_ends_with_the_same_rows_and_repeats_no_finished_stage(smoke: Run, tmp_path: Path):
    words = ("compare", "smoke", "--latents", "small-dino+16", *SOME)
    stages = tmp_path / "stages"
    process = subprocess.Popen(
        [*COMMAND, *words, "--out", str(tmp_path)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not stages.is_dir() or len(finished(stages)) < 6:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = finished(stages)
    assert not (tmp_path / "rows.parquet").exists()

    resumed = rslwm(*words, out=tmp_path)

    assert {name: record for name, record in finished(stages).items() if name in kept} == kept
    assert not {f"{record.kind} {record.label}" for record in kept.values()} & set(resumed.made)
    assert rows_of(resumed, "small-dino+16") == rows_of(smoke, "small-dino+16", like=resumed)


def test_a_seventh_encoder_from_a_file_takes_part(smoke: Run, plugin: Path, tmp_path: Path):
    shutil.copytree(smoke.folder / "stages", tmp_path / "stages")
    mine = rslwm("compare", "smoke", "--latents", f"small-vae,{plugin}:PatchMean", *SOME, out=tmp_path)
    assert {name.split(" seed")[0].split()[-1] for name in mine.made} == {"PatchMean"}
    assert set(Rows.load(mine.folder / "rows.parquet")["latent"]) == {"small-vae", "PatchMean"}
    assert rows_of(mine, "small-vae") == rows_of(smoke, "small-vae", like=mine)
    assert "PatchMean" in mine.output


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"needs 25 BridgeData V2 episodes in {SAMPLE}")
def test_real_robot_data_name_the_metrics_that_they_can_not_give(tmp_path: Path):
    run = rslwm("compare", "smoke", "--data", f"rlds:{SAMPLE}", "--latents", "small-vae", out=tmp_path)
    missing = {
        entry["metric"]: entry["reason"] for entry in json.loads((tmp_path / "study.json").read_text())["unavailable"]
    }
    assert "no success labels" in missing["success_auc"]
    assert "no object positions" in missing["object_error"]
    assert all(
        f"not available: {metric}: {reason}" in " ".join(run.output.split()) for metric, reason in missing.items()
    )
    assert not missing.keys() & set(Rows.load(tmp_path / "rows.parquet")["metric"])
