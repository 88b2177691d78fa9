"""What a user does with the world models of a run."""

import shutil
from pathlib import Path

import av
import pytest
from safetensors.torch import load_file

from rslwm.data.store import TensorStore
from rslwm.evals.rows import Rows
from rslwm.latents.space import LatentSpace
from rslwm.model.world_model import WorldModel
from terminal import Run, rslwm


@pytest.fixture(scope="module")
def run(smoke: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the smoke run's folder, to write into."""
    with smoke.undisturbed:
        return shutil.copytree(smoke.folder, tmp_path_factory.mktemp("used") / "run")


def test_every_space_leaves_a_checkpoint_that_loads_from_its_path(run: Path):
    for folder in (run / "checkpoints").iterdir():
        model = WorldModel.load(folder)
        assert model.data is not None
        assert model.space.spec.name == folder.name


def test_rollout_writes_a_video_and_latents_a_clip(run: Path, tmp_path: Path):
    made = rslwm("rollout", str(run / "checkpoints/small-vae"), "--clips", "3", "--future", "4", out=tmp_path)
    assert made.made == []  # the episodes are there
    assert load_file(tmp_path / "latents.safetensors")["latents"].shape == (3, 4, 8, 8, 16)
    for number in range(3):
        with av.open(str(tmp_path / f"{number:02d}.mp4")) as container:
            frames = list(container.decode(video=0))
        assert (len(frames), frames[0].width, frames[0].height) == (2 + 4, 512, 256)
    assert all(row in made.output for row in ("copy last frame", "rollout", "encode-decode"))


def test_eval_measures_a_checkpoint_that_was_moved_away_from_its_run(run: Path, tmp_path: Path):
    alone = shutil.copytree(run / "checkpoints/small-dino+16", tmp_path / "moved")
    small = ["--evaluation.rollouts.clips", "4", "--evaluation.rollouts.future", "3"]
    small += ["--evaluation.probe.optim.steps", "4", "--evaluation.readout.windows", "4"]
    small += ["--metrics", "visual,object_readout,planning[windows=4,plan.candidates=8,plan.elites=2]"]
    made = rslwm("eval", str(alone), *small, out=tmp_path / "out")
    rows = Rows.load(tmp_path / "out/rows.parquet")
    assert set(rows["latent"]) == {"small-dino+16"}
    assert set(rows["metric"]) >= {"psnr", "ssim", "object_error", "cem_error"}
    assert all(metric in made.output for metric in set(rows["metric"]))


def test_policies_are_tried_in_a_world_model_and_in_truth(run: Path, tmp_path: Path):
    asked = "policies[policies=still random sees-points-100,trials.trials=2,trials.filmed=2,trials.actions=6,parts=1]"
    quick = ("--evaluation.probe.optim.steps", "4")
    made = rslwm("eval", str(run / "checkpoints/small-vae"), "--metrics", asked, *quick, out=tmp_path)
    rows = Rows.load(tmp_path / "rows.parquet")
    trials = rows.where(rows["metric"] == "policy_r_within")
    assert set(trials["unit"]) == {"still", "random", "sees-points-100"}
    assert set(trials["dim"]) == {"push", "pick", "stack", "drawer"}
    assert len(trials) == 3 * 4 * 2
    assert set(trials["target"]) <= {0.0, 1.0}
    parts = set(rows.where(rows["metric"] == "policy_r_parts")["dim"])
    assert {"nothing", "true dynamics", "true judge", "true frames", "trusted half"} <= parts
    assert "policy_bias" in made.output


def test_train_reuses_what_the_comparison_has_trained(run: Path):
    made = rslwm("train", "smoke", "--latents", "small-cosmos", out=run)
    assert made.made == []
    assert f"checkpoint: {run / 'checkpoints/small-cosmos'}" in made.output


def test_a_space_is_trained_and_encodes_a_data_set(run: Path, tmp_path: Path):
    assert rslwm("latents", "train", "smoke", "--latents", "small-vjepa+16", out=run).made == []
    space = run / "spaces/small-vjepa+16"
    assert LatentSpace.load(space).pixels is not None
    (data,) = run.glob("stages/data-*/simulator-tabletop-*")
    rslwm("latents", "encode", str(space), "--data", f"lerobot:{data}", out=tmp_path)
    store = TensorStore(tmp_path / "latents")
    assert store.shape(store.keys[0])[1:] == (8, 8, 16)
