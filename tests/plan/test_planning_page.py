"""The Python of docs/planning.md runs as it stands there."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from push_world import CONFIGS, push, truths
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.plan.base import PlanConfig
from rslwm.types import end_effector_spec

PAGE = Path(__file__).parents[2] / "docs/planning.md"
SETTINGS = PAGE.read_text().split("## Settings")[1].split("\n## ")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_a_checkpoint_plans(tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = LatentSpace(SpaceConfig(reference=f"{plugin}:PatchMean", image_size=64))
    model = WorldModel(space, end_effector_spec(0.05, 0.25), WorldModelConfig(), torch.Generator().manual_seed(0))
    model.save(tmp_path / "runs/mine/checkpoints/small-vae")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in BLOCKS[:2]:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["found"].actions.shape == (1, 3, 7)
    assert names["frame"].shape == (1, 8, 8, 3)


def test_a_planner_in_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "shooting.py"
    file.write_text(BLOCKS[2])
    result = push(truths(), replace(CONFIGS["cem"], planner=f"{file}:shooting", candidates=4096))
    assert (result.actions - truths()).abs().max() < 0.25


def test_its_table_has_the_defaults() -> None:
    for names, values in re.findall(r"^\| (`.*?`) \| (.*?) \|", SETTINGS, re.MULTILINE):
        for name, value in zip(re.findall(r"`(.*?)`", names), values.replace("`", "").split(", "), strict=True):
            default: object = PlanConfig()
            for part in name.split("."):
                default = getattr(default, part)
            assert str(default).removesuffix(".0") == value
