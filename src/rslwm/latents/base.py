"""The contract of an encoder, and the registry that finds one by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rslwm.optim import OptimConfig
from rslwm.registry import Registry, import_below
from rslwm.serialisation import OPERATIONAL, ConfigError
from rslwm.types import DataError, LatentSpec


@dataclass(frozen=True)
class EncoderConfig:
    """Encoders: sizes and training of the small ones, which differ in nothing but their objective, and what published
    ones are shown."""

    weights: str = field(default="", metadata=OPERATIONAL)
    """Folder with a subfolder of weights for each published encoder, by its name. What isn't there is looked for in the
    hub's cache."""
    input_size: int = 256
    """Side in pixels to which a frame is resized for published encoders with patches of 8 or 16 px. Those with patches
    of 14 px are shown 14/16 of it, so that all have as many patches."""
    width: int = 128
    """Width of a small encoder's transformer, which is also the number of channels of the small semantic latents."""
    depth: int = 5
    """Number of blocks of a small encoder's transformer."""
    heads: int = 4
    """Number of attention heads of a small encoder's transformer; it must divide the width."""
    patch: int = 8
    """Side in pixels of the square patch of a frame that becomes one latent token, of small encoders and floors."""
    channels: int = 16
    """Number of latent channels of the small reconstruction encoders and of random projections."""
    pair_gap: tuple[int, ...] = (2, 6)
    """Small encoders are trained on pairs of frames of one episode. This many recorded steps lie between the two, at
    least and at most."""
    min_rank: float = 4.0
    """The training of an encoder counts as failed if the effective rank of its latents, which is the number of
    directions in which they vary, ends below this."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=200, lr=1e-3, weight_decay=0.02))


@dataclass(frozen=True)
class FrameBatch:
    """What a trainable encoder sees in one step. Every encoder of a study sees the same frames in the same order.

    ``frames`` is (B, 2, H, W, 3) float in [0, 1]: pairs from one episode, the second frame later. ``features`` holds
    the (B, 2, h, w, C) features of the frozen encoder named by ``Encoder.teacher``, if any.
    """

    frames: Tensor
    instructions: list[str]
    features: Tensor | None = None

    def to(self, device: torch.device) -> FrameBatch:
        """The same on a device."""
        features = None if self.features is None else self.features.to(device)
        return FrameBatch(self.frames.to(device), self.instructions, features)


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
    trainable: ClassVar[bool] = False
    """Whether a study trains it first, see :class:`TrainableEncoder`."""
    teacher: ClassVar[str | None] = None
    """Name of a frozen encoder of the registry whose features the training's objective reads."""
    seeded: ClassVar[bool] = True
    """Whether its weights depend on the seed of a row."""
    scaffold: ClassVar[tuple[str, ...]] = ()
    """Names of the parts that only its training uses."""
    network_dtype: torch.dtype | None = None
    """Of its arithmetic, if that isn't what a run computes in."""

    def __init__(self, config: EncoderConfig, image_size: int) -> None:
        super().__init__()
        self.config, self.image_size = config, image_size

    def encode(self, frames: Tensor) -> Tensor:
        """(B, T, H, W, 3) float in [0, 1] -> (B, T, h, w, C)."""
        raise NotImplementedError

    def encode_in_graph(self, frames: Tensor) -> Tensor:
        """The same with the graph of gradients, where :meth:`encode` leaves that out."""
        return self.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, H, W, 3) float in [0, 1], if the encoder ``decodes``."""
        raise NotImplementedError

    def loss(self, batch: FrameBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to minimise and the terms to log, all scalars, if the encoder is ``trainable``."""
        raise NotImplementedError

    @torch.no_grad()
    def update(self, fraction: float) -> None:
        """Called after every optimiser step with the share of training done; moving averages go here."""

    def take_down(self) -> None:
        """Drop the :attr:`scaffold`, in place: it encodes the same, and can't be trained any more."""
        for name in self.scaffold:
            if hasattr(self, name):
                delattr(self, name)

    @classmethod
    def settings(cls, config: EncoderConfig) -> EncoderConfig:
        """What the encoder reads of a configuration, all else at its default: no other setting changes its latents."""
        return config

    @classmethod
    def frame_size(cls, config: EncoderConfig) -> int | None:
        """Pixels of the frames that suit it best, if it matters."""
        return None

    def take_place(self, recorded: LatentSpec, where: Path) -> None:
        """Take the place of the encoder that made the latents of a saved space; raises :class:`DataError` if that was
        another one, by the record in the file ``where``."""
        if self.spec != recorded:
            what = f"the latents were made by {recorded}, but here is {self.spec}"
            raise DataError(f"{where}: {what}; put the encoder's original weights and options back")

    def require_weights(self) -> None:
        """Raises :class:`DataError` if it can't encode for want of weights; says how to get them."""

    def weights_state(self) -> tuple[str, str]:
        """Whether its weights are trained, here or missing, or whether it has none; and where they are or come from."""
        return ("trained" if self.trainable else "none"), ""

    def stand_in(self) -> bool:
        """Take random weights if those of the network are missing, and say whether it was so: the cost is the same."""
        return False

    def bare_network(self, device: torch.device) -> nn.Module:
        """The module that holds what encodes, on this device."""
        return self.to(device)

    def flops(self) -> tuple[int, int]:
        """Floating-point operations of encoding one frame and of decoding it, two a multiply-add; 0 where it can't
        decode. Counted on a black frame; resizing doesn't count."""
        size, spec = self.image_size, self.spec
        where = next((x.device for x in (*self.parameters(), *self.buffers())), torch.device("cpu"))
        frame = torch.zeros(1, 1, size, size, 3, device=where)
        latent = torch.zeros(1, 1, *spec.grid, spec.channels, device=where)
        return counted(lambda: self.encode(frame)), counted(lambda: self.decode(latent)) if self.decodes else 0


class TrainableEncoder(Encoder):
    """An encoder that the study trains first, under the same budget as every other one. It implements :meth:`loss`."""

    trainable = True


@torch.no_grad()
def counted(work: Callable[[], Tensor]) -> int:
    """Floating-point operations, two a multiply-add."""
    # Not every fused attention is known to the counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def encoder_class(reference: str) -> type[Encoder]:
    """The encoder of this name of the registry, or of path/to/file.py:Class; raises :class:`UnknownName` if nothing
    answers to the reference, :class:`ConfigError` if it is no encoder."""
    found = ENCODERS.get(reference)
    if not (isinstance(found, type) and issubclass(found, Encoder)):
        raise ConfigError(f"latents: {reference} is {found!r}, which is no subclass of rslwm.latents.base.Encoder")
    return found


ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder",
    "rslwm.encoders",
    partial(import_below, "rslwm.latents.small", "rslwm.latents.published", "rslwm.latents.floor"),
)
