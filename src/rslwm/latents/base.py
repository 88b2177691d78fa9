"""The contract of an encoder, and the registry that finds one by name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from rslwm.optim import OptimConfig
from rslwm.registry import Registry
from rslwm.serialisation import OPERATIONAL
from rslwm.types import DataError, LatentSpec


@dataclass(frozen=True)
class EncoderConfig:
    """The small encoders, one backbone, so that nothing but the objective differs; and what published ones share."""

    weights: str = field(default="", metadata=OPERATIONAL)
    """Folder of published weights, a subfolder for each encoder's name; what isn't there is looked for in the hub's
    cache."""
    input_size: int = 256
    """Side in pixels at which published encoders with patches of 8 or 16 px see a frame; those with 14 px see 14/16 of
    it, so that the grids are the same."""
    width: int = 128
    depth: int = 5
    heads: int = 4
    patch: int = 8
    channels: int = 16
    """Latent channels of the reconstruction encoders."""
    pair_gap: tuple[int, ...] = (2, 6)
    """Training frames come in pairs of one episode, this many recorded steps apart (from, to)."""
    min_rank: float = 4.0
    """Effective rank of the latents below which training counts as collapsed."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=200, lr=1e-3, weight_decay=0.02))


class Encoder(nn.Module):
    """Frames to latents, one frame at a time.

    A subclass sets ``spec`` in its constructor and implements :meth:`encode`; that is all a frozen encoder needs. Its
    constructor takes the study's encoder configuration and the frame size in pixels and, if it declares
    ``options_type``, an instance of that as ``options``.
    """

    spec: LatentSpec
    options_type: ClassVar[type | None] = None
    """A frozen dataclass of choices, each with a default; a row of a study sets them as ``NAME[choice=value]``."""
    version: ClassVar[int] = 1
    """Of the latents; raise it when they change."""
    decodes: ClassVar[bool] = False
    """Whether :meth:`decode` exists, so that pixels need no decoder of ours."""

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__()
        self.config, self.image_size = config, image_size

    def encode(self, frames: Tensor) -> Tensor:
        """(B, T, H, W, 3) float in [0, 1] -> (B, T, h, w, C)."""
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, H, W, 3) float in [0, 1], if the encoder ``decodes``."""
        raise NotImplementedError

    def take_place(self, recorded: LatentSpec, where: Path) -> None:
        """Take the place of the encoder that made the latents of a saved space.

        Raises:
            DataError: that was another one, by the record in the file ``where``.
        """
        if self.spec != recorded:
            raise DataError(
                f"{where}: the latents were made by {recorded}, but here is {self.spec}; put the encoder's original "
                "weights and options back"
            )


@dataclass(frozen=True)
class FrameBatch:
    """What a trainable encoder sees in one step. Every encoder of a study sees the same frames in the same order.

    ``frames`` is (B, 2, H, W, 3) float in [0, 1]: pairs from one episode, the second frame later. ``features`` holds
    the (B, 2, h, w, C) features of the frozen encoder named by ``TrainableEncoder.teacher``, if any.
    """

    frames: Tensor
    instructions: list[str]
    features: Tensor | None = None


class TrainableEncoder(Encoder):
    """An encoder that the study trains first, under the same budget as every other one."""

    teacher: ClassVar[str | None] = None
    """Name of a frozen encoder of the registry whose features the objective reads."""

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to minimise and the terms to log, all scalars."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, fraction: float) -> None:
        """Called after every optimiser step with the share of training done; moving averages go here."""


def _load_builtin() -> None:
    for package in ("small", "published", "floor"):
        folder = importlib.import_module(f"rslwm.latents.{package}")
        for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
            importlib.import_module(module.name)


ENCODERS: Registry[type[Encoder]] = Registry("encoder", "rslwm.encoders", _load_builtin)
