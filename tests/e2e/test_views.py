"""Two cameras, end to end, and a world model of one camera as the start of one of two."""

import json
from pathlib import Path

import av
import pytest
from safetensors.torch import load_file

from rslwm.evals.rows import Rows
from terminal import Run, rslwm

TWO = ("--latents", "small-vae", "--data.sim.cameras", "front,side", "--data.camera", "front,side")
SIDE = 64


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return rslwm("compare", "smoke", *TWO, out=tmp_path_factory.mktemp("views") / "two")


def test_two_cameras_are_measured_with_the_same_metrics_as_one(two_cameras: Run, smoke: Run):
    def measured(run: Run) -> set[str]:
        rows = Rows.load(run.folder / "rows.parquet")
        return set(rows.where(rows["latent"] == "small-vae").distinct("metric"))

    assert measured(two_cameras) == measured(smoke)
    clips = load_file(two_cameras.folder / "clips/small-vae.safetensors")["frames"]
    assert clips.shape[2:] == (SIDE, 2 * SIDE, 3)
    assert "aspect-ratio:2.0" in (two_cameras.folder / "report/index.html").read_text()


def test_its_rollouts_show_both_cameras(two_cameras: Run, tmp_path: Path):
    run = rslwm("rollout", str(two_cameras.folder / "checkpoints/small-vae"), "--clips", "1", out=tmp_path)
    assert "encode-decode" in run.output
    with av.open(str(tmp_path / "00.mp4")) as video:
        stream = video.streams.video[0]
        assert stream.width == 4 * stream.height  # the truth beside the rollout, two views each
    assert load_file(tmp_path / "latents.safetensors")["latents"].shape[-3:-1] == (8, 16)


def test_a_single_view_checkpoint_is_where_two_views_start(two_cameras: Run, smoke: Run):
    start = smoke.folder / "checkpoints/small-vae"
    run = rslwm("train", "smoke", *TWO, "--world-model.init", str(start), out=two_cameras.folder)
    assert run.made == ["world-model small-vae seed 0"]
    starts = {json.loads(path.read_text())["start"] for path in run.folder.glob("stages/world-model-*/facts.json")}
    assert starts == {"random weights", f"weights of {start}, trained on small-vae (1 view(s), the same actions)"}
