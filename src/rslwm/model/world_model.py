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
from rslwm.data.seen import SeenEpisodes
from rslwm.latents.space import LatentSpace
from rslwm.model.ddpm import DDPMConfig, VPrediction
from rslwm.model.dit import DiT, DiTConfig
from rslwm.model.flow import FlowConfig, FlowMatching, shift_factor
from rslwm.model.sampler import RolloutState, Sampler, SamplingConfig
from rslwm.optim import OptimConfig
from rslwm.serialisation import OPERATIONAL, ConfigError, from_dict, to_dict
from rslwm.tensors import load_weights, write_tensors
from rslwm.types import ActionSpec, DataError


@dataclass(frozen=True)
class WorldModelConfig:
    """One world model, the same budget for every latent space."""

    init: str = field(default="", metadata=OPERATIONAL)
    """Folder of a world model whose weights the transformer starts from, for instance a single-view one's; empty draws
    them."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    objective: Literal["flow", "ddpm"] = "flow"
    flow: FlowConfig = field(default_factory=FlowConfig)
    ddpm: DDPMConfig = field(default_factory=DDPMConfig)
    action_dropout: float = 0.0
    """Probability that a training frame gets the null action (the paper's code: 0.1)."""
    alignment: Literal["incoming", "outgoing"] = "incoming"
    """A frame is conditioned on the action that led to it, or on the one taken from it (the paper's code). Incoming
    lets K candidate actions share the whole context."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=450, batch_size=30, lr=3e-3, final_lr=0.02, ema=0.995)
    )


FORMAT = 1
PIXELS_AT_ONCE = 2**21
"""Pixels of the frames that are encoded or decoded in one go."""


class WorldModel(nn.Module):
    """Predicts latents from latents and actions.

    Frame t is conditioned on the action that led to it, normalised; the first frame of a window gets zeros. With
    causal attention a window's context is then the same whatever comes next, and K candidate futures share it. With
    ``alignment="outgoing"`` it is conditioned on the action taken from it, as in the paper's code, zeros where that
    isn't known. Precision is the caller's: wrap :meth:`loss` and the rollouts in :func:`rslwm.compute.autocast`.

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
        self.space, self.action_spec, self.config = space, action_spec, config
        self.fingerprint, self.data = fingerprint, data
        self.seen: SeenEpisodes | None = None
        """What it was trained on, where that is known; travels with the checkpoint."""
        self.space.requires_grad_(False)
        (h, w), channels = space.spec.grid, space.spec.channels
        self.dit = DiT(config.dit, channels, action_spec.dims, generator)
        gamma = shift_factor(config.flow, h * w // config.dit.patch**2, channels)
        self.objective = VPrediction(config.ddpm) if config.objective == "ddpm" else FlowMatching(config.flow, gamma)
        if config.action_dropout and not config.dit.action_inputs:
            raise ConfigError(
                f"world_model.action_dropout is {config.action_dropout}, but the transformer has no input for the null "
                f"action; set dit.action_inputs to {action_spec.dims + 1}"
            )

    @property
    def device(self) -> torch.device:
        return self.dit.x_proj.weight.device

    @property
    def _outgoing(self) -> bool:
        return self.config.alignment == "outgoing"

    @property
    def _sampler(self) -> Sampler:
        null = self._null_action if self.config.action_dropout else None
        return Sampler(self.dit, self.objective, null, blank_first=not self._outgoing)

    def for_inference(self, compute: ComputeConfig) -> Self:
        """On the configured device, the transformer in the dtype of matrix products, in place, for rollouts without the
        cost of autocast. Don't train or save it afterwards."""
        self.to(device(compute)).dit.to(precision(compute))
        return self.eval()

    def loss(self, latents: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Training loss of clips (B, T, h, w, C) with normalised actions (B, T-1, A); a scalar."""
        self._check(latents, actions, latents.shape[1] - 1)
        clip = self.objective.corrupt(latents, generator)
        inputs = self._inputs(self._aligned(actions))
        if self.config.action_dropout:
            drawn = torch.rand(inputs.shape[:2], generator=generator, device=generator.device).to(inputs)
            inputs = torch.where(drawn[..., None] < self.config.action_dropout, self._null_action, inputs)
        return clip.loss(self.dit(clip.x, clip.levels, inputs))

    @torch.no_grad()
    def start(self, context: Tensor, actions: Tensor, full_window: bool = False) -> RolloutState:
        """The state after real frames (B, T, h, w, C) and the normalised actions between them (B, T-1, A).

        ``full_window`` is :attr:`SamplingConfig.full_window` of the steps to come.
        """
        self._check(context, actions, context.shape[1] - 1)
        return self._sampler.start(context, self._inputs(self._aligned(actions)), full_window, self._outgoing)

    @torch.no_grad()
    def step(
        self,
        state: RolloutState,
        action: Tensor,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        following: Tensor | None = None,
    ) -> tuple[RolloutState, Tensor]:
        """One frame (B, h, w, C) after the normalised action (B, A), B being ``state.batch``; and the next state.

        Give either a generator or the noise (B, h, w, C) that the frame starts from. A model of outgoing alignment also
        looks at the ``following`` action (B, A), the one taken from the new frame, where it is known.

        Raises:
            ConfigError: ``sampling`` asks for what the model can't do, see :meth:`Sampler.step`.
        """
        noise = self._noise((state.batch, *state.latents.shape[2:]), generator, noise)
        action = self._inputs(action)
        if not self._outgoing:
            return self._sampler.step(state, action, noise, sampling)
        own = torch.zeros_like(action) if following is None else self._inputs(following)
        return self._sampler.step(state, own, noise, sampling, last_action=action)

    @torch.no_grad()
    def unroll(
        self,
        state: RolloutState,
        actions: Tensor,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """F frames (B, F, h, w, C) from a state, with actions (B, F, A) and noise (B, F, h, w, C) or a generator."""
        noise = self._noise((*actions.shape[:2], *state.latents.shape[2:]), generator, noise)
        frames = []
        for t in range(actions.shape[1]):
            following = actions[:, t + 1] if t + 1 < actions.shape[1] else None
            state, frame = self.step(state, actions[:, t], sampling, noise=noise[:, t], following=following)
            frames.append(frame)
        return torch.stack(frames, 1)

    def rollout(
        self,
        context: Tensor,
        actions: Tensor,
        sampling: SamplingConfig,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The future of real frames.

        Args:
            context: (B, T, h, w, C).
            actions: (B, T-1+F, A), normalised; the first T-1 lie between the context frames.
            noise: (B, F, h, w, C), or a generator instead.

        Returns:
            F generated frames, (B, F, h, w, C); :meth:`decode` turns them into video.
        """
        past, future = actions.split([context.shape[1] - 1, actions.shape[1] - context.shape[1] + 1], 1)
        return self.unroll(self.start(context, past, sampling.full_window), future, sampling, generator, noise)

    @torch.no_grad()
    def encode(self, frames: Tensor, clips: int = 0) -> Tensor:
        """Video (B, T, H, W, 3) in [0, 1] -> latents (B, T, h, w, C), ``clips`` at a time; by default 2 megapixels."""
        return torch.cat([self.space.encode(part) for part in frames.split(clips or self._clips_at_once(frames))])

    @torch.no_grad()
    def decode(self, latents: Tensor, clips: int = 0) -> Tensor:
        """Latents (B, T, h, w, C) -> video (B, T, H, W, 3) in [0, 1], ``clips`` at a time like :meth:`encode`."""
        return torch.cat([self.space.decode(part) for part in latents.split(clips or self._clips_at_once(latents))])

    def _clips_at_once(self, clips: Tensor) -> int:
        return max(1, PIXELS_AT_ONCE // (clips.shape[1] * self.space.config.image_size**2))

    def save(self, folder: Path | str) -> None:
        """Write a checkpoint folder: ``model.safetensors``, ``config.yaml``, ``episodes.json`` and ``space/``; all or
        nothing.

        Raises:
            DataError: the folder exists and holds something else.
        """
        record = {
            "format": FORMAT,
            "world_model": to_dict(self.config),
            "latent_space": self.space.spec.to_dict(),
            "action_spec": self.action_spec.to_dict(),
            "data_fingerprint": self.fingerprint,
            "data": to_dict(self.data),
        }
        with _replacing(Path(folder)) as new:
            write_tensors(self.dit.state_dict(), new / "model.safetensors")
            (new / "config.yaml").write_text(yaml.safe_dump(record, sort_keys=False, width=120))
            self.space.save(new / "space")
            if self.seen:
                self.seen.write(new)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a checkpoint folder; nothing but its path is needed.

        Raises:
            ConfigError: a field of the configuration is unknown or has the wrong type.
            DataError: a file is missing, truncated or of another format, a weight is missing, left over or of another
                shape, or ``space/`` is not the latent space that the model was trained on.
        """
        folder = Path(folder)
        record = _read_record(folder / "config.yaml")
        space = LatentSpace.load(folder / "space")
        if space.spec.to_dict() != record["latent_space"]:
            raise DataError(
                f"{folder / 'space'} holds {space.spec}, but {folder / 'config.yaml'} says the model was trained on "
                f"{record['latent_space']}; put the original space/ back"
            )
        config = from_dict(WorldModelConfig, record["world_model"], str(folder / "config.yaml"))
        spec = stored_spec(record["action_spec"], str(folder / "config.yaml"))
        data = from_dict(DataConfig, record["data"], str(folder / "config.yaml")) if record.get("data") else None
        model = cls(space, spec, config, fingerprint=record["data_fingerprint"], data=data)
        model.seen = SeenEpisodes.read(folder)
        load_weights(model.dit, folder / "model.safetensors")
        return model.eval()

    def _aligned(self, actions: Tensor) -> Tensor:
        """Actions between frames (B, T-1, A) -> each frame's own (B, T, A), zeros where there is none."""
        return F.pad(actions, (0, 0, 0, 1) if self._outgoing else (0, 0, 1, 0))

    def _inputs(self, actions: Tensor) -> Tensor:
        """(..., A) -> what the transformer takes of them."""
        return F.pad(actions.float(), (0, max(0, self.config.dit.action_inputs - self.action_spec.dims)))

    @property
    def _null_action(self) -> Tensor:
        null = torch.zeros(self.config.dit.action_inputs, device=self.device)
        null[-1] = 1
        return null

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None, noise: Tensor | None) -> Tensor:
        if (generator is None) == (noise is None):
            raise ValueError("give either a generator or the noise to start from, not both or neither")
        if noise is not None:
            return noise
        assert generator is not None
        return torch.randn(shape, generator=generator, device=generator.device).to(self.device)

    def _check(self, latents: Tensor, actions: Tensor, transitions: int) -> None:
        spec = self.space.spec
        if latents.shape[2:] != (*spec.grid, spec.channels):
            raise ValueError(
                f"latents are {tuple(latents.shape)}; {spec.name} needs (B, T, {spec.grid}, {spec.channels})"
            )
        needed = (len(latents), transitions, self.action_spec.dims)
        if actions.shape != needed:
            raise ValueError(
                f"actions are {tuple(actions.shape)} for latents {tuple(latents.shape)}; expected {needed}: "
                f"{', '.join(self.action_spec.names)} between each two frames"
            )


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A temporary sibling that takes the folder's place when the block ends without an error."""
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


def _read_record(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"{file} does not exist; a checkpoint holds config.yaml, model.safetensors and space/")
    try:
        record = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise DataError(f"{file} is not YAML: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise DataError(f"{file}: format {found!r}, but this version reads {FORMAT}; use the version that wrote it")
    for name in ("world_model", "latent_space", "action_spec", "data_fingerprint"):
        if name not in record:
            raise DataError(f"{file}: field {name!r} is missing; the file is not as it was saved")
    return record
