"""The Python of docs/acting.md runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from rslwm.actors import policies
from rslwm.actors.base import ACTORS
from rslwm.actors.blind import Random
from rslwm.data.config import DataConfig
from rslwm.envs.base import play
from rslwm.envs.tabletop import SimulatedTabletop
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig
from rslwm.sim.config import SimConfig
from rslwm.sim.record import restore
from rslwm.sim.tabletop import SPEC
from tiny import TINY

PAGE = Path(__file__).parents[2] / "docs/acting.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_an_expert_acts_in_the_simulator_and_its_actions_in_a_world_model(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = LatentSpace(SpaceConfig(reference=f"{plugin}:PatchMean", image_size=64))
    model = WorldModel(space, SPEC, WorldModelConfig(), torch.Generator().manual_seed(0))
    model.save(tmp_path / "runs/mine/checkpoints/small-vae")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in BLOCKS[:2]:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["played"].seen.frames.shape == (4, 40, 64, 64, 3)
    assert names["played"].seen.success.any(1).sum() >= 3
    assert names["dreamt"].seen.latents.shape == (1, 8, 8, 8, 3)
    assert names["otherwise"].seen.actions.shape == (1, 4, 7)


def test_policies_of_the_ladder_act(capsys: pytest.CaptureFixture) -> None:
    exec(compile(BLOCKS[2], str(PAGE), "exec"), {"SimulatedTabletop": SimulatedTabletop, "SimConfig": SimConfig})
    *listed, count = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == policies.names()
    assert "'trials': 4" in count


def test_an_actor_in_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "homing.py").write_text(BLOCKS[3])
    config = SimConfig(cameras=())
    table = SimulatedTabletop(config)
    astray = play(Random(), table, (restore(config, 0), restore(config, 1)), 4)
    homing = ACTORS.get(f"{tmp_path / 'homing.py'}:Homing")()
    homing.start(astray.start)
    home = astray.start.truth["gripper_position"][:, 0]
    observation, far = astray.seen, (astray.seen.truth["gripper_position"][:, -1] - home).norm(dim=1)
    for _ in range(8):
        observation = table.step(homing.act(observation))
    near = (observation.truth["gripper_position"][:, -1] - home).norm(dim=1)
    assert (near < 0.3 * far).all()


@pytest.mark.usefixtures("in_this_process")
def test_both_worlds_are_played_through_gymnasium(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    space = SpaceConfig(reference=f"{plugin}:PatchMean", image_size=64, decode=True, decoder=DecoderConfig(width=16))
    data = DataConfig(sim=SimConfig(episodes=2, min_steps=4, max_steps=4))
    spec, drawn = SPEC.composed(data.frame_skip), torch.Generator().manual_seed(0)
    model = WorldModel(LatentSpace(space), spec, WorldModelConfig(dit=TINY), drawn, data=data)
    model.save(tmp_path / "runs/mine/checkpoints/small-vae")
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[4], str(PAGE), "exec"), {})
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("(")]
    assert [line.partition(")")[0] for line in shown] == ["(4, 64, 64, 3", "(8, 64, 64, 3"]


def test_the_table_has_the_actors() -> None:
    listed = re.findall(r"^\| `(\w+)\(", PAGE.read_text(), re.MULTILINE)
    assert {*listed} == {ACTORS.get(name).__name__ for name in ACTORS}
