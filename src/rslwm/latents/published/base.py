"""What the published encoders share: weights that stay where they are, and choices that are never silent."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.compute import seeded
from rslwm.latents.base import Encoder, EncoderConfig
from rslwm.latents.flops import counted
from rslwm.latents.published.preprocessing import HALF, Filter, Preprocessing
from rslwm.latents.published.weights import Source, Weights, find_weights, missing
from rslwm.serialisation import ConfigError
from rslwm.types import DataError, Family, LatentSpec

NOMINAL_PATCH = 16
MOST = 32
"""Images that a network sees at a time, whatever it is asked for: at 256 px, a layer of an autoencoder holds 16 MB of
each."""


@dataclass(frozen=True)
class Options:
    """Choices that every published encoder leaves open; the paper's code resizes without antialias."""

    weights: str = ""
    """A file or folder; empty looks below ``encoder.weights``, then in the hub's cache."""
    filter: Filter = "bicubic"
    antialias: bool = True
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the network (the paper's code: bfloat16)."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network, published or read off the weights. Subclasses add what ``build`` needs."""

    channels: int
    """C, of the latents."""
    patch: int
    """Pixels of a side that one position of the latent grid stands for."""
    parameters: int
    """Of the encoder, decoder not counted."""


class MissingLibrary(DataError):
    """A package that holds an encoder's network and isn't installed; the message says how to get it."""


class PublishedEncoder(Encoder):
    """A frozen network with published weights.

    The network is loaded when the first frame is encoded, and is not part of the state dict: what was trained on its
    latents can be loaded and decoded without it, and nobody else's weights are copied. While they are missing,
    ``spec`` describes the published network or, in a space that was saved, the one that made its latents.

    A subclass declares the class variables and implements :meth:`build`, :meth:`load` and :meth:`features`, with a
    decoder also :meth:`images`, and :meth:`measure` to load networks of other sizes than the published ones.
    """

    name: ClassVar[str]
    family: ClassVar[Family]
    source: ClassVar[Source]
    published: ClassVar[Architecture]
    options_type: ClassVar[type[Options]] = Options
    seeded = False
    mean: ClassVar[tuple[float, float, float]] = HALF
    std: ClassVar[tuple[float, float, float]] = HALF

    def __init__(self, config: EncoderConfig, image_size: int, options: Options | None = None) -> None:
        super().__init__(config, image_size)
        self.options: Any = options or self.options_type()
        self.weights: Weights | None = find_weights(self.name, self.needed(), self.options.weights, config.weights)
        self.architecture: Any = self.measure(self.weights) if self.weights else self.published
        self._network: list[nn.Module] = []  # in a list, which hides it from the module's own parameters
        patch, side = self.architecture.patch, self.side()
        if side % patch:
            raise ConfigError(
                f"encoder.input_size is {config.input_size}: {self.name} would see {side} px, not a multiple of its "
                f"patch of {patch}; a multiple of {NOMINAL_PATCH} always works"
            )
        self.preprocessing = Preprocessing(side, self.mean, self.std, self.options.filter, self.options.antialias)
        self.spec = LatentSpec(
            self.name,
            self.family,
            (side // patch, side // patch),
            self.architecture.channels,
            self.architecture.parameters,
            self.weights.revision if self.weights else self.source.revision,
            self.source.licence,
            {**asdict(self.preprocessing), **_recorded(self.options)},
        )

    @classmethod
    def settings(cls, config: EncoderConfig) -> EncoderConfig:
        weights = str(Path(config.weights).expanduser().resolve()) if config.weights else ""
        return EncoderConfig(weights=weights, input_size=config.input_size, min_rank=config.min_rank)

    @classmethod
    def frame_size(cls, config: EncoderConfig) -> int:
        return config.input_size

    def take_place(self, recorded: LatentSpec, where: Path) -> None:
        if self.weights is None:
            self.spec = recorded  # nothing is here that could contradict it
        else:
            super().take_place(recorded, where)

    def needed(self) -> Source:
        """The part of the source that the options ask for."""
        return self.source

    def side(self) -> int:
        """Pixels of a side that the network sees: 256 px at a patch of 16 and 224 px at one of 14 make one grid."""
        size, patch = self.config.input_size, self.architecture.patch
        return size if NOMINAL_PATCH % patch == 0 else size * patch // NOMINAL_PATCH

    def build(self, architecture: Any) -> nn.Module:
        """The network, untrained; also on the meta device."""
        raise NotImplementedError

    def load(self, weights: Weights) -> nn.Module:
        """The network with its weights, strictly.

        Raises:
            DataError: names the file and the first tensor that is missing, extra or of another shape.
        """
        raise NotImplementedError

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Preprocessed images (N, 3, side, side) -> latents (N, h, w, C)."""
        raise NotImplementedError

    def measure(self, weights: Weights) -> Architecture:
        """The sizes of a network from its files, without loading it."""
        return self.published

    @property
    def network_dtype(self) -> torch.dtype:  # type: ignore[override]
        return getattr(torch, self.options.dtype)

    def network(self, device: torch.device) -> nn.Module:
        """The loaded network, on this device, once a process.

        Raises:
            MissingWeights: they are not on this machine; the message says how to get them.
            DataError: the files hold something else.
        """
        if not self._network:
            self.require_weights()
            assert self.weights is not None
            with torch.autocast("cpu", enabled=False):  # a network may be tried out before it leaves the CPU
                self._network.append(self._frozen(self.load(self.weights)))
        return self._network[0].to(device)

    def require_weights(self) -> None:
        if self.weights is None:
            raise missing(self.name, self.needed(), self.options.weights, self.config.weights)

    def weights_state(self) -> tuple[str, str]:
        if self.weights:
            return "here", str(self.weights.file)
        source = self.needed()
        return "missing", f"missing; {source.megabytes} MB of {source.place}:\n    {source.command}"

    def stand_in(self) -> bool:
        if self.weights is None and not self._network:
            with seeded(0, f"{self.name} random weights"):
                self._network.append(self._frozen(self.build(self.architecture)))
        return self.weights is None

    def _frozen(self, network: nn.Module) -> nn.Module:
        network = nn.Module.to(network, self.network_dtype)  # diffusers' own method warns of every cast
        return network.eval().requires_grad_(False)

    def bare_network(self, device: torch.device) -> nn.Module:
        return self.network(device)

    def bare_work(self, frames: Sequence[Tensor]) -> Callable[[], object]:
        network = self.network(frames[0].device)
        images = [self.preprocessing(rearrange(x, "B T H W c -> (B T) H W c"), self.network_dtype) for x in frames]

        def run() -> list[Tensor]:
            with torch.autocast(images[0].device.type, enabled=False):
                return [self.features(network, batch) for batch in images]

        return run

    def flops(self) -> tuple[int, int]:
        """Without the weights, nor memory for them: on the meta device."""
        with torch.device("meta"):
            network, side = self.build(self.architecture).eval(), self.preprocessing.size
            image, latent = torch.empty(1, 3, side, side), torch.empty(1, *self.spec.grid, self.spec.channels)
        decode = counted(lambda: self.images(network, latent)) if self.decodes else 0
        return counted(lambda: self.features(network, image)), decode

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        return self.encode_in_graph(frames)

    def encode_in_graph(self, frames: Tensor) -> Tensor:
        B, network = frames.shape[0], self.network(frames.device)
        parts = rearrange(frames, "B T H W c -> (B T) H W c").split(MOST)
        with torch.autocast(frames.device.type, enabled=False):
            latents = [self.features(network, self.preprocessing(part, self.network_dtype)).float() for part in parts]
        return rearrange(torch.cat(latents), "(B T) h w C -> B T h w C", B=B)

    def images(self, network: nn.Module, latents: Tensor) -> Tensor:
        """Latents (N, h, w, C) -> images (N, 3, side, side), normalised as the preprocessing does it, if the encoder
        ``decodes``."""
        raise NotImplementedError


class PublishedAutoencoder(PublishedEncoder):
    """A published encoder with a decoder of its own."""

    decodes = True

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        B, network = latents.shape[0], self.network(latents.device)
        parts = rearrange(latents, "B T h w C -> (B T) h w C").to(self.network_dtype).split(MOST)
        with torch.autocast(latents.device.type, enabled=False):
            frames = [self.preprocessing.invert(self.images(network, part), self.image_size) for part in parts]
        return rearrange(torch.cat(frames), "(B T) H W c -> B T H W c", B=B)


def _recorded(options: Options) -> dict[str, Any]:
    """The options that change latents, beyond those that the preprocessing holds."""
    held = {"weights", "filter", "antialias"}
    return {name: value for name, value in asdict(options).items() if name not in held}


def blank(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with memory for its weights and nothing in it: drawing what a file replaces takes a ViT-L seconds."""
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


def import_library(encoder: str, module: str, extra: str) -> Any:
    """The module of another project that holds an encoder's network, imported late: it takes seconds.

    Raises:
        MissingLibrary: it isn't installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        needs = f"{encoder} needs the package {module.replace('_', '-')}"
        raise MissingLibrary(f"{needs}; get it with pip install 'rslwm[{extra}]'") from None


def require(condition: bool, weights: Weights, what: str) -> None:
    """Raises :class:`DataError` naming the file if the condition doesn't hold."""
    if not condition:
        raise DataError(f"{weights.file}: {what}")
