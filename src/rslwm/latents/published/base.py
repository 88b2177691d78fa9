"""What the published encoders share: weights that stay where they are, and choices that are never silent."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.compute import seeded
from rslwm.latents.base import Encoder, EncoderConfig, counted
from rslwm.latents.published.weights import Source, Weights, find_weights, missing
from rslwm.serialisation import ConfigError
from rslwm.types import DataError, Family, LatentSpec

Filter = Literal["bicubic", "bilinear"]

HALF = (0.5, 0.5, 0.5)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NOMINAL_PATCH = 16
MOST = 32
"""Images that a network sees at a time: at 256 px, a layer of an autoencoder holds 16 MB of each."""


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
class Preprocessing:
    """Resize to a square and normalise; nothing is cropped."""

    size: int
    """Side in pixels of what the network sees."""
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    """Per colour; the halves take [0, 1] to [-1, 1]."""
    filter: Filter = "bicubic"
    antialias: bool = True

    def __call__(self, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(N, H, W, 3) in [0, 1] -> (N, 3, size, size)."""
        images = rearrange(frames, "N H W c -> N c H W").float().contiguous()  # resizing is slow otherwise
        images = resize(images, self.size, self.filter, self.antialias)
        mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (self.mean, self.std))
        return (images - mean).div_(std).to(dtype)

    def invert(self, images: Tensor, side: int) -> Tensor:
        """(N, 3, size, size) -> frames (N, side, side, 3) in [0, 1]."""
        mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (self.mean, self.std))
        frames = resize(images.float() * std + mean, side, self.filter, self.antialias)
        return rearrange(frames, "N c H W -> N H W c").clamp(0, 1)


def resize(images: Tensor, side: int, kind: Filter, antialias: bool) -> Tensor:
    """(N, c, H, W) -> (N, c, side, side); the bicubic filter overshoots the range of its input."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode=kind, antialias=antialias, align_corners=False)


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network, published or read off the weights."""

    channels: int
    """C, of the latents."""
    patch: int
    """Pixels of a side that one position of the latent grid stands for."""
    parameters: int
    """Of the encoder, decoder not counted."""
    config: Any = None
    """What else :meth:`PublishedEncoder.build` needs."""


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
    network_dtype: torch.dtype
    mean: ClassVar[tuple[float, float, float]] = HALF
    std: ClassVar[tuple[float, float, float]] = HALF

    def __init__(self, config: EncoderConfig, image_size: int, options: Options | None = None) -> None:
        super().__init__(config, image_size)
        self.options: Any = options or self.options_type()
        self.network_dtype = getattr(torch, self.options.dtype)
        self.weights: Weights | None = find_weights(self.name, self.needed(), self.options.weights, config.weights)
        self.architecture: Any = self.published
        if self.weights:
            with _files_of(self.name, self.weights):
                self.architecture = self.measure(self.weights)
        self._network: list[nn.Module] = []  # in a list, which hides it from the module's own parameters
        patch, side = self.architecture.patch, self.side()
        if side % patch:
            what = f"{self.name} would see {side} px, not a multiple of its patch of {patch}"
            raise ConfigError(
                f"encoder.input_size is {config.input_size}: {what}; a multiple of {NOMINAL_PATCH} always works"
            )
        self.preprocessing = Preprocessing(side, self.mean, self.std, self.options.filter, self.options.antialias)
        grid, revision = (side // patch, side // patch), (self.weights or self.source).revision
        sizes = grid, self.architecture.channels, self.architecture.parameters
        record = {**asdict(self.preprocessing), **asdict(self.options)}
        del record["weights"]  # where they lie changes no latent
        self.spec = LatentSpec(self.name, self.family, *sizes, revision, self.source.licence, record)

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
        """The network with its weights; raises :class:`DataError` that names the file and the first tensor that is
        missing, extra or of another shape."""
        raise NotImplementedError

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        """Preprocessed images (N, 3, side, side) -> latents (N, h, w, C)."""
        raise NotImplementedError

    def measure(self, weights: Weights) -> Architecture:
        """The sizes of a network from its files, without loading it."""
        return self.published

    def network(self, device: torch.device) -> nn.Module:
        """The loaded network, on this device, once a process; raises :class:`MissingWeights` if its weights are not on
        this machine, :class:`DataError` if the files hold something else."""
        if not self._network:
            self.require_weights()
            assert self.weights is not None
            # Autocast is off, for a network may be tried out before it leaves the CPU.
            with torch.autocast("cpu", enabled=False), _files_of(self.name, self.weights):
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
        network, dtype = self.network(frames.device), self.network_dtype
        return _in_parts(lambda x: self.features(network, self.preprocessing(x, dtype)).float(), frames)

    def images(self, network: nn.Module, latents: Tensor) -> Tensor:
        """Latents (N, h, w, C) -> images (N, 3, side, side), normalised as the preprocessing does it, if the encoder
        ``decodes``."""
        raise NotImplementedError


class PublishedAutoencoder(PublishedEncoder):
    """A published encoder with a decoder of its own."""

    decodes = True

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        network, side = self.network(latents.device), self.image_size
        invert = self.preprocessing.invert
        return _in_parts(lambda z: invert(self.images(network, z), side), latents.to(self.network_dtype))


_UNFIT = (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AttributeError, AssertionError)
"""What libraries raise that are asked to build a network from what somebody has written, whatever that is."""


@contextmanager
def _files_of(name: str, weights: Weights) -> Iterator[None]:
    """Whatever can't be built from these files is a :class:`DataError` that names them."""
    try:
        yield
    except (ConfigError, DataError):
        raise
    except _UNFIT as error:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        raise DataError(f"{weights.file}, or a file beside it, describes no {name} ({why}); get it again") from None


def _in_parts(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Work on the images of (B, T, ...), a few at a time and in the network's own precision."""
    with torch.autocast(x.device.type, enabled=False):
        made = [work(part) for part in x.flatten(0, 1).split(MOST)]
    return torch.cat(made).unflatten(0, x.shape[:2])


def blank(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with memory for its weights and nothing in it: drawing what a file replaces takes a ViT-L seconds."""
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


def import_library(encoder: str, module: str, extra: str) -> Any:
    """The module of another project that holds an encoder's network, imported late: it takes seconds. Raises
    :class:`MissingLibrary` if it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        needs = f"{encoder} needs the package {module.replace('_', '-')}"
        raise MissingLibrary(f"{needs}; get it with pip install 'rslwm[{extra}]'") from None


def require(condition: bool, weights: Weights, what: str) -> None:
    """Raises :class:`DataError` naming the file if the condition doesn't hold."""
    if not condition:
        raise DataError(f"{weights.file}: {what}")
