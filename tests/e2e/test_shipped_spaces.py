"""World models of a run are packed, put to data, and their spaces taken by another study."""

import json
import shutil
from pathlib import Path

import pytest

from rslwm.run.stage import RECORD
from terminal import Run, rslwm


@pytest.fixture(scope="module")
def packed(smoke: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection ``mine`` of the smoke run."""
    out = tmp_path_factory.mktemp("packed")
    made = rslwm("ship", str(smoke.folder), "--as", "mine", out=out)
    assert "all together: " in made.output
    return out / "mine"


def test_every_space_of_the_run_is_packed_small(smoke: Run, packed: Path) -> None:
    before = {folder.name for folder in (smoke.folder / "checkpoints").iterdir()}
    assert {folder.name for folder in packed.iterdir()} == before
    assert sum(file.stat().st_size for file in packed.rglob("*") if file.is_file()) < 30e6
    for card in packed.glob("*/card.json"):
        check = json.loads(card.read_text())["check"]
        assert abs(check["rollout"] - check["rollout_before"]) < 0.1


def test_a_packed_world_model_is_rolled_out_on_as_few_episodes_as_are_asked_for(packed: Path, tmp_path: Path) -> None:
    asked = ("--episodes", "8", "--clips", "2", "--future", "3")
    made = rslwm("rollout", str(packed / "small-vae"), *asked, out=tmp_path)
    assert "2 clips in" in made.output
    assert "of 8 episodes, on which the model was trained, were left out" in made.output


def test_another_study_takes_its_spaces_and_trains_none(smoke: Run, packed: Path, tmp_path: Path) -> None:
    with smoke.undisturbed:
        for folder in (path.parent for path in smoke.folder.glob(f"stages/*/{RECORD}")):
            if folder.name.split("-")[0] in ("data", "frames"):
                shutil.copytree(folder, tmp_path / "stages" / folder.name)
    latents = f"{packed / 'small-vae'},dino={packed / 'small-dino+16'}"
    made = rslwm("compare", "smoke", "--latents", latents, "--metrics", "visual", out=tmp_path)
    kinds = {name.split()[0] for name in made.made}
    assert kinds == {"taken-space", "latents", "world-model", "rollouts", "metric"}
    assert "trained before, on 16 episodes of sim:tabletop" in " ".join(made.output.split())
