"""Controls on the whole pipeline: a space against itself must come out undecided, spoiled ones worse."""

import json
from pathlib import Path

import pytest

from terminal import rslwm

ENCODERS = '''
import torch
from einops import rearrange

from rslwm.latents.base import Encoder
from rslwm.types import LatentSpec


class Patches(Encoder):
    """Mean colours of 4x4 patches, four to a cell."""

    def __init__(self, config, image_size):
        super().__init__(config, image_size)
        self.spec = LatentSpec("patches", "reconstruction", (image_size // 8,) * 2, channels=12)

    def encode(self, frames):
        return rearrange(frames, "B T (h p a) (w q b) c -> B T h w (p q c) (a b)", p=2, q=2, a=4, b=4).mean(-1)


class Blurred(Patches):
    """The same, drowned in noise that is new for every frame."""

    def __init__(self, config, image_size):
        super().__init__(config, image_size)
        self.noise = torch.Generator().manual_seed(0)

    def encode(self, frames):
        z = super().encode(frames)
        return z + 5 * z.std() * torch.randn(z.shape, generator=self.noise).to(z)


class Blind(Patches):
    """The same, with grey in the left 60 % of the picture."""

    def encode(self, frames):
        seen = frames.clone()
        seen[..., : round(0.6 * frames.shape[-2]), :] = 0.5
        return super().encode(seen)
'''
LEARNING = {
    "data.sim.episodes": "60",
    "data.sim.noise": "0,0.3,1.0",
    "decoder.optim.steps": "10",
    "world-model.optim.steps": "30",
    "evaluation.probe.optim.steps": "150",
    "evaluation.rollouts.clips": "24",
    "evaluation.readout.windows": "128",
    "evaluation.planning.windows": "16",
}


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Of a study with the same space twice and two planted defects, with enough training for probes to read something
    and two seeds, which measure the noise of training."""
    folder: Path = tmp_path_factory.mktemp("controls")
    file = folder / "encoders.py"
    file.write_text(ENCODERS)
    spaces = f"clean={file}:Patches,twin={file}:Patches@1,blurred={file}:Blurred,blind={file}:Blind"
    flags = [word for name, value in LEARNING.items() for word in (f"--{name}", value)]
    measured = "visual,gripper_readout,object_readout,planning"
    words = ("--seeds", "2", "--latents", spaces, "--metrics", measured)
    run = rslwm("compare", "smoke", *words, *flags, out=folder / "run")
    return json.loads((run.folder / "verdict.json").read_text())


def test_a_space_is_not_told_from_itself(verdict: dict):
    for name, axis in verdict["axes"].items():
        assert not axis["winner"], f"{name}: {verdict['decisions'][name]}"


@pytest.mark.parametrize("spoiled", ["blurred", "blind"])
def test_a_spoiled_space_is_ruled_out(verdict: dict, spoiled: str):
    assert spoiled not in verdict["axes"]["representation"]["contenders"], verdict["decisions"]["representation"]


def test_from_a_blurred_space_less_is_read(verdict: dict):
    gripper = next(m for m in verdict["metrics"] if m["info"]["name"] == "gripper_error")
    error = {bar["latent"]: bar["value"] for bar in gripper["bars"]}
    assert error["blurred"] > 1.3 * max(error["clean"], error["twin"])
