"""The golden vectors: weights, inputs and outputs of the published functions at tiny sizes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from rslwm.model.dit import DiT, DiTConfig
from rslwm.model.flow import FlowConfig, FlowMatching
from rslwm.model.published.ddpm import DDPMConfig, VPrediction
from rslwm.model.sampler import FullWindow, Objective, OutgoingSampler, SamplingConfig

GOLDEN = Path(__file__).parent / "golden"
SAMPLING = SamplingConfig(steps=10, full_window=True)


@dataclass
class Golden:
    dit: DiT
    tensors: dict[str, Tensor]
    objective: Objective | None
    """Of the rollout, where there is one."""


def load(name: str) -> Golden:
    """A golden file; ``ddim_plain_p2`` has the weights and inputs of ``dit_plain_p2`` and its own rollout."""
    tensors, metadata = _read(name)
    if name == "ddim_plain_p2":
        base = load("dit_plain_p2")
        return Golden(base.dit, base.tensors | tensors, VPrediction(DDPMConfig()))
    config = metadata["config"]
    architecture = DiTConfig(
        width=config["dim"],
        depth=config["num_layers"],
        heads=config["num_heads"],
        patch=config["patch_size"],
        wide_head=config.get("decoder_dim", 0) if config["wide_head"] else 0,
        max_frames=config["max_frames"],
        temporal=config.get("temporal_mode", "factorised"),
        views=config.get("num_views", 1),
        view_order="interleaved",
    )
    dit = DiT(architecture, config["in_channels"], config["action_dim"])
    dit.load_state_dict(weights_in(tensors))
    objective = None
    if "sampler" in metadata:
        sampler = metadata["sampler"]
        objective = FlowMatching(FlowConfig(context_level=sampler["context_t"]), sampler["shift"])
    return Golden(dit, tensors, objective)


def _read(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, {key: json.loads(value) for key, value in file.metadata().items()}


def stored(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of a golden file, and all of its tensors."""
    tensors, _ = _read(name)
    return weights_in(tensors), tensors


def weights_in(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def velocity_error(golden: Golden) -> float:
    """Of one forward pass, relative to the largest published value."""
    tensors = golden.tensors
    return relative_error(golden.dit(tensors["x"], tensors["t"], tensors["actions"]), tensors["y"])


@torch.no_grad()
def rollout_error(golden: Golden, sampling: SamplingConfig = SAMPLING, frames: int | None = None) -> float:
    """Of the first new frames of the rollout, all by default."""
    assert golden.objective is not None
    context, actions = golden.tensors["rollout_context"], golden.tensors["rollout_actions"]
    noise = golden.tensors["rollout_noise"].squeeze(2).transpose(0, 1)[:, :frames]
    new = published_rollout(golden.dit, golden.objective, context, actions, noise, sampling)
    return relative_error(new, golden.tensors["rollout"][:, context.shape[1] :][:, : new.shape[1]])


def published_rollout(
    dit: DiT, objective: Objective, context: Tensor, actions: Tensor, noise: Tensor, sampling: SamplingConfig = SAMPLING
) -> Tensor:
    """New frames (B, F, h, w, C) from noise (B, F, h, w, C); every frame, of the context too, has its own action."""
    sampler, past = OutgoingSampler(dit, objective), context.shape[1]
    state = sampler.start(context, actions[:, : past - 1])
    if sampling.full_window:
        state = FullWindow.of(state, sampler, context, actions[:, : past - 1])
    new = []
    for t in range(past, past + noise.shape[1]):
        state, frame = sampler.step(state, actions[:, t - 1], noise[:, t - past], sampling, actions[:, t])
        new.append(frame)
    return torch.stack(new, 1)
