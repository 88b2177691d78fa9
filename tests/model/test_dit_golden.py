"""The transformer and its sampler compute what the published ones compute, with the published weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from rslwm.config import DiTConfig
from rslwm.model.dit import DiT
from rslwm.model.sampler import Sampler

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass
class Golden:
    dit: DiT
    tensors: dict[str, Tensor]
    sampler: dict[str, Any]


@pytest.fixture(params=["dit_wide_p1", "dit_plain_p2"])
def golden(request: pytest.FixtureRequest) -> Golden:
    with safe_open(GOLDEN / f"{request.param}.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config, sampler = (json.loads(file.metadata()[name]) for name in ("config", "sampler"))
    architecture = DiTConfig(
        width=config["dim"],
        depth=config["num_layers"],
        heads=config["num_heads"],
        patch=config["patch_size"],
        wide_head=config["decoder_dim"] if config["wide_head"] else 0,
        max_frames=config["max_frames"],
    )
    dit = DiT(architecture, config["in_channels"], config["action_dim"])
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    dit.load_state_dict(weights, strict=True)
    return Golden(dit, tensors, sampler)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def test_velocity_equals_the_published_one(golden: Golden) -> None:
    y = golden.dit(golden.tensors["x"], golden.tensors["t"], golden.tensors["actions"])
    assert relative_error(y, golden.tensors["y"]) < 1e-5


@torch.no_grad()
def test_rollout_equals_the_published_one(golden: Golden) -> None:
    context, actions = golden.tensors["rollout_context"], golden.tensors["rollout_actions"]
    noise = golden.tensors["rollout_noise"].squeeze(2).transpose(0, 1)
    sampler = Sampler(golden.dit, golden.sampler["shift"], golden.sampler["context_t"])
    past = context.shape[1]
    future = sampler.rollout(
        sampler.start(context, actions[:, :past]), actions[:, past:], noise, golden.sampler["steps"]
    )
    assert relative_error(torch.cat([context, future], 1), golden.tensors["rollout"]) < 1e-4
