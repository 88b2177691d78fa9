"""A world model: a latent space, a transformer over it, and the meaning of the actions that it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from rslwm.compute import ComputeConfig, device, precision
from rslwm.data.config import DataConfig
from rslwm.data.conventions import stored_spec
from rslwm.data.corpus import SeenEpisodes
from rslwm.latents.space import LatentSpace
from rslwm.model.dit import DiT, DiTConfig
from rslwm.model.flow import FlowConfig, FlowMatching, shift_factor
from rslwm.model.published.ddpm import DDPMConfig, VPrediction
from rslwm.model.sampler import FullWindow, Objective, OutgoingSampler, RolloutState, Sampler, SamplingConfig
from rslwm.optim import OptimConfig
from rslwm.serialisation import OPERATIONAL, ConfigError, from_dict, read_yaml, to_dict
from rslwm.shipping import located
from rslwm.tensors import load_weights, write_tensors
from rslwm.types import ActionSpec, DataError


@dataclass(frozen=True)
class WorldModelConfig:
    """A world model and its training; the same for every latent space, so that nothing but the space differs."""

    init: str = field(default="", metadata=OPERATIONAL)
    """Folder of another world model, or the name of a shipped one, whose weights the transformer starts from: a
    single-view one's can start a multi-view one. If it is empty, the weights are drawn at random."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    objective: Literal["flow", "ddpm"] = "flow"
    """What the transformer learns to predict: the velocity of flow matching, as in the paper, or that of denoising
    diffusion, the default of the paper's code."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """Settings of flow matching; only the flow objective reads them."""
    ddpm: DDPMConfig = field(default_factory=DDPMConfig)
    """Settings of denoising diffusion; only the ddpm objective reads them."""
    action_dropout: float = 0.0
    """Probability with which a training frame gets the null action in place of its own, so that sampling can be guided
    (the paper's code: 0.1). It needs ``dit.action_inputs``."""
    alignment: Literal["incoming", "outgoing"] = "incoming"
    """Whether a frame is conditioned on the action that led to it, or on the one taken from it, as in the paper's code.
    With incoming actions K candidate futures share their whole context."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=450, batch_size=30, lr=3e-3, final_lr=0.02, ema=0.995)
    )
    """Optimiser, schedule and length of the transformer's training."""
    redraw: int = 0
    """Another number trains another world model in the same latent space: other initial weights, clips and noise."""


PIXELS_AT_ONCE = 2**21
"""Pixels of the frames that are encoded or decoded in one go."""
FORMAT = 1
"""Of a checkpoint's folder; only this one is read."""


class WorldModel(nn.Module):
    """Predicts latents from latents and actions, all of them normalised.

    Wherever ``noise`` is asked for, a generator draws it. Precision is the caller's: wrap :meth:`loss` and the rollouts
    in :func:`rslwm.compute.autocast`.

    Args:
        space: the latent space; kept frozen. Train ``world_model.dit``.
        action_spec: of one model step (``spec.composed(frame_skip)``).
        generator: draws the initial weights.
        fingerprint: of the training data; travels with the checkpoint.
        data: how clips were cut from them, so that a rollout from the checkpoint alone cuts them the same way.
    """

    def __init__(
        self,
        space: LatentSpace,
        action_spec: ActionSpec,
        config: WorldModelConfig,
        generator: torch.Generator | None = None,
        fingerprint: str = "",
        data: DataConfig | None = None,
    ) -> None:
        super().__init__()
        self.space, self.action_spec, self.config = space.requires_grad_(False), action_spec, config
        self.fingerprint, self.data = fingerprint, data
        self.seen: SeenEpisodes | None = None  # what it was trained on, where that is known
        (h, w), channels = space.spec.grid, space.spec.channels
        self.dit = DiT(config.dit, channels, action_spec.dims, generator)
        flow = FlowMatching(config.flow, shift_factor(config.flow, h * w // config.dit.patch**2, channels))
        self.objective: Objective = VPrediction(config.ddpm) if config.objective == "ddpm" else flow
        self._sampling = OutgoingSampler if config.alignment == "outgoing" else Sampler
        if config.action_dropout and not config.dit.action_inputs:
            dropout = f"world_model.action_dropout is {config.action_dropout}"
            raise ConfigError(f"{dropout} without a null action; set dit.action_inputs to {action_spec.dims + 1}")

    @property
    def device(self) -> torch.device:
        return self.dit.x_proj.weight.device

    @property
    def _sampler(self) -> Sampler:
        return self._sampling(self.dit, self.objective, self._null_action if self.config.action_dropout else None)

    def for_inference(self, compute: ComputeConfig) -> Self:
        """On the configured device, the transformer in the dtype of matrix products, in place, for rollouts without the
        cost of autocast. Don't train or save it afterwards."""
        self.to(device(compute)).dit.to(precision(compute))
        return self.eval()

    def loss(self, latents: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss of clips (B, T, h, w, C) with actions (B, T-1, A); a scalar."""
        self._check(latents, actions)
        clip = self.objective.corrupt(latents, generator)
        inputs = self._inputs(self._sampling.align(actions))
        if self.config.action_dropout:
            drawn = torch.rand(inputs.shape[:2], generator=generator, device=generator.device).to(inputs)
            inputs = torch.where(drawn[..., None] < self.config.action_dropout, self._null_action, inputs)
        return clip.loss(self.dit(clip.x, clip.levels, inputs))

    @torch.no_grad()
    def start(self, context: Tensor, actions: Tensor, full_window: bool = False) -> RolloutState:
        """The state after real frames (B, T, h, w, C) and the actions between them (B, T-1, A); ``full_window`` is
        :attr:`SamplingConfig.full_window` of the steps to come."""
        self._check(context, actions)
        sampler, actions = self._sampler, self._inputs(actions)
        state = sampler.start(context, actions)
        return FullWindow.of(state, sampler, context, actions) if full_window else state

    @torch.no_grad()
    def step(
        self,
        state: RolloutState,
        action: Tensor,
        sampling: SamplingConfig,
        noise: Tensor | torch.Generator,
        following: Tensor | None = None,
    ) -> tuple[RolloutState, Tensor]:
        """The next state, and the frame (B, h, w, C) that an action (B, A) makes of noise; B is ``state.batch``.

        A model of outgoing alignment also looks at the ``following`` action (B, A), the one taken from the new frame,
        where it is known. Raises what :meth:`Sampler.step` raises.
        """
        noise = self._drawn(noise, state.batch, *state.latents.shape[2:])
        following = None if following is None else self._inputs(following)
        return self._sampler.step(state, self._inputs(action), noise, sampling, following)

    @torch.no_grad()
    def unroll(
        self, state: RolloutState, actions: Tensor, sampling: SamplingConfig, noise: Tensor | torch.Generator
    ) -> Tensor:
        """F frames (B, F, h, w, C) from a state, with actions (B, F, A) and noise (B, F, h, w, C)."""
        noise = self._drawn(noise, *actions.shape[:2], *state.latents.shape[2:])
        one_by_one, frames = actions.unbind(1), []
        for action, following, start in zip(one_by_one, (*one_by_one[1:], None), noise.unbind(1), strict=True):
            state, frame = self.step(state, action, sampling, noise=start, following=following)
            frames.append(frame)
        return torch.stack(frames, 1)

    def rollout(
        self, context: Tensor, actions: Tensor, sampling: SamplingConfig, noise: Tensor | torch.Generator
    ) -> Tensor:
        """The F frames (B, F, h, w, C) that noise becomes after real ones (B, T, h, w, C). Of the actions (B, T-1+F, A)
        the first T-1 lie between the real frames."""
        known = context.shape[1] - 1
        state = self.start(context, actions[:, :known], sampling.full_window)
        return self.unroll(state, actions[:, known:], sampling, noise)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Video (B, T, H, W, 3) in [0, 1] -> latents (B, T, h, w, C), a few megapixels at a time."""
        return torch.cat([self.space.encode(part) for part in frames.split(self._clips_at_once(frames))])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, T, h, w, C) -> video (B, T, H, W, 3) in [0, 1], a few megapixels at a time."""
        return torch.cat([self.space.decode(part) for part in latents.split(self._clips_at_once(latents))])

    def _clips_at_once(self, clips: Tensor) -> int:
        return max(1, PIXELS_AT_ONCE // (clips.shape[1] * self.space.config.image_size**2))

    def save(self, folder: Path | str) -> None:
        """Write a checkpoint folder, all or nothing; raises what :func:`replacing` raises."""
        record = {
            "format": FORMAT,
            "world_model": to_dict(self.config),
            "latent_space": to_dict(self.space.spec),
            "action_spec": self.action_spec.to_dict(),
            "data_fingerprint": self.fingerprint,
            "data": to_dict(self.data),
        }
        with replacing(Path(folder)) as new:
            write_tensors(self.dit.state_dict(), new / "model.safetensors")
            (new / "config.yaml").write_text(yaml.safe_dump(record, sort_keys=False, width=120))
            self.space.save(new / "space")
            if self.seen:
                self.seen.write(new)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a checkpoint folder, or that of a shipped name such as small-vae@tabletop.

        Raises:
            UnknownName: nothing of that name is shipped.
            ConfigError: a field of the configuration is unknown or has the wrong type.
            DataError: a file is missing, truncated, of another format or not what its card says, or weights or
                ``space/`` don't fit the model.
        """
        folder = located(folder)
        file, record = str(folder / "config.yaml"), read_record(folder / "config.yaml")
        space = LatentSpace.load(folder / "space")
        if to_dict(space.spec) != record["latent_space"]:
            trained = f"{file} says the model was trained on {record['latent_space']}"
            raise DataError(f"{folder / 'space'} holds {space.spec}, but {trained}; put the original space/ back")
        config = from_dict(WorldModelConfig, record["world_model"], file)
        spec = stored_spec(record["action_spec"], file)
        data = from_dict(DataConfig, record["data"], file) if record.get("data") else None
        model = cls(space, spec, config, fingerprint=record["data_fingerprint"], data=data)
        model.seen = SeenEpisodes.read(folder)
        load_weights(model.dit, folder / "model.safetensors")
        return model.eval()

    def _inputs(self, actions: Tensor) -> Tensor:
        """(..., A) -> what the transformer takes of them."""
        return F.pad(actions.float(), (0, max(0, self.config.dit.action_inputs - self.action_spec.dims)))

    @property
    def _null_action(self) -> Tensor:
        return torch.eye(self.config.dit.action_inputs, device=self.device)[-1]

    def _drawn(self, noise: Tensor | torch.Generator, *shape: int) -> Tensor:
        if isinstance(noise, Tensor):
            return noise
        return torch.randn(shape, generator=noise, device=noise.device).to(self.device)

    def _check(self, latents: Tensor, actions: Tensor) -> None:
        spec, shape = self.space.spec, tuple(latents.shape)
        if shape[2:] != (*spec.grid, spec.channels):
            raise ValueError(f"latents are {shape}; {spec.name} needs (B, T, {spec.grid}, {spec.channels})")
        needed = (shape[0], shape[1] - 1, self.action_spec.dims)
        if actions.shape != needed:
            names = ", ".join(self.action_spec.names)
            given = f"actions are {tuple(actions.shape)} for latents {shape}"
            raise ValueError(f"{given}; expected {needed}: {names} between each two frames")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary sibling that takes the folder's place when the block ends without an error; raises
    :class:`DataError` if the folder exists and holds something else than a checkpoint."""
    if folder.exists() and not (folder / "config.yaml").is_file() and any(folder.iterdir()):
        raise DataError(f"{folder} exists and is not a checkpoint (no config.yaml); choose another folder or remove it")
    new, old = (folder.with_name(f".{folder.name}.{tag}-{os.getpid()}") for tag in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def read_record(file: Path) -> dict[str, Any]:
    """``config.yaml`` as it was saved; raises :class:`DataError` if it is missing, damaged or of another format."""
    if not file.is_file():
        raise DataError(f"{file} does not exist; a checkpoint holds config.yaml, model.safetensors and space/")
    try:
        record = read_yaml(file)
    except ConfigError as error:
        raise DataError(str(error)) from None
    found = record.get("format") if isinstance(record, dict) else type(record).__name__
    if not isinstance(record, dict) or found != FORMAT:
        raise DataError(f"{file}: format {found!r}, but this version reads {FORMAT}; use the version that wrote it")
    for name in ("world_model", "latent_space", "action_spec", "data_fingerprint"):
        if name not in record:
            raise DataError(f"{file}: field {name!r} is missing; the file is not as it was saved")
    return record
