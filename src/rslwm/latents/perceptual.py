"""Distances between images as networks trained on photographs see them: LPIPS, and one that needs no download.

LPIPS (Zhang et al., arXiv 1801.03924, version 0.1) here needs neither torchvision nor the lpips package: the networks
are built below and load torchvision's files, and torchmetrics ships the weights of the channels.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.compute import seeded
from rslwm.latents.base import EncoderConfig
from rslwm.latents.published.effnet import EffNetLite0, EffNetOptions
from rslwm.latents.published.weights import Source, in_place
from rslwm.tensors import read_tensors, take_weights, tensors_in

Kind = Literal["lpips-alex", "lpips-vgg", "effnet-lite0"]

Convolution = tuple[int, int, int, int]
"""Output channels, side, stride and padding."""

EPSILON = 1e-8
"""Keeps the gradient finite where no channel is active."""


@dataclass(frozen=True)
class Trunk:
    """What stands in front of one of torchvision's classifiers."""

    source: Source
    pool: int
    """Side of the maximum poolings; their stride is 2."""
    levels: tuple[tuple[Convolution, ...], ...]
    """Convolutions, each followed by a ReLU; the last activation of a level is compared."""
    pooled: tuple[int, ...]
    """Levels with a pooling in front."""


def _torchvision(file: str, megabytes: int) -> Source:
    return Source((file,), megabytes, "BSD-3-Clause (torchvision)", url=f"https://download.pytorch.org/models/{file}")


TRUNKS = {
    "alex": Trunk(
        _torchvision("alexnet-owt-7be5be79.pth", 244),
        pool=3,
        levels=(((64, 11, 4, 2),), ((192, 5, 1, 2),), ((384, 3, 1, 1),), ((256, 3, 1, 1),), ((256, 3, 1, 1),)),
        pooled=(1, 2),
    ),
    "vgg": Trunk(
        _torchvision("vgg16-397923af.pth", 553),
        pool=2,
        levels=tuple(((width, 3, 1, 1),) * n for width, n in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))),
        pooled=(1, 2, 3, 4),
    ),
}


class PerceptualDistance(nn.Module):
    """Frozen; computes in single precision whatever surrounds it."""

    name: str
    """What logs call it."""

    def load(self, folder: str) -> None:
        """Take its published weights; a network of torchvision's is in ``folder``, or where torchvision keeps its
        downloads. Raises :class:`MissingWeights` if a file isn't there, :class:`DataError` if it is another."""
        raise NotImplementedError

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, H, W, 3) twice, in [0, 1] -> (N,); 0 for equal images."""
        with torch.autocast(a.device.type, enabled=False):
            x, y = (rearrange(images.float(), "N H W c -> N c H W") for images in (a, b))
            pairs = zip(self.maps(x), self.maps(y), strict=True)
            return self.compare([(_unit(u) - _unit(v)).square() for u, v in pairs])

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """(N, 3, H, W) in [0, 1] -> activations (N, D, h, w), level by level."""
        raise NotImplementedError

    def compare(self, differences: list[Tensor]) -> Tensor:
        """Squared differences of the levels' unit vectors, each (N, D, h, w) -> (N,)."""
        raise NotImplementedError


def _unit(features: Tensor) -> Tensor:
    return features * (features.square().sum(1, keepdim=True) + EPSILON).rsqrt()


class LPIPS(PerceptualDistance):
    """Differences weighted by channel, summed over five levels of a classifier, averaged over the image."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Literal["alex", "vgg"]) -> None:
        super().__init__()
        self.name, self.network, self.trunk = f"lpips-{network}", network, TRUNKS[network]
        self.features, self._compared = _layers(self.trunk)
        self.heads = nn.ModuleList(nn.Conv2d(level[-1][0], 1, 1, bias=False) for level in self.trunk.levels)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        x = (2 * images - 1 - self.shift) / self.scale
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self._compared:
                yield x

    def compare(self, differences: list[Tensor]) -> Tensor:
        pairs = zip(self.heads, differences, strict=True)
        return torch.stack([head(difference).mean((1, 2, 3)) for head, difference in pairs]).sum(0)

    def load(self, folder: str) -> None:
        place = Path(folder).expanduser() if folder else Path(torch.hub.get_dir()) / "checkpoints"
        path = in_place(f"decoder.perceptual {self.name}", self.trunk.source, place).file
        trunk = tensors_in(read_tensors(path), path)
        kept = {name: x for name, x in trunk.items() if not name.startswith("classifier.")}
        take_weights(self.features, kept, path, lambda name: f"features.{name}")
        shipped = importlib.resources.files("torchmetrics.functional.image") / "lpips_models" / f"{self.network}.pth"
        with importlib.resources.as_file(shipped) as heads:
            weights = tensors_in(read_tensors(heads), heads)
            take_weights(self.heads, weights, heads, lambda name: f"lin{name[0]}.model.1.weight")


def _layers(trunk: Trunk) -> tuple[nn.Sequential, list[int]]:
    """Layers with torchvision's numbers, and the numbers of the activations that are compared."""
    layers: list[nn.Module] = []
    compared, channels = [], 3
    for i, level in enumerate(trunk.levels):
        layers += [nn.MaxPool2d(trunk.pool, 2)] if i in trunk.pooled else []
        for convolution in level:
            layers += [nn.Conv2d(channels, *convolution), nn.ReLU()]
            channels = convolution[0]
        compared.append(len(layers) - 1)
    return nn.Sequential(*layers), compared


class EfficientNetDistance(PerceptualDistance):
    """Half the squared distance of unit vectors (1 - cosine), averaged over the image and five resolutions.

    Of EfficientNet-Lite0, whose ImageNet weights a package holds. It ranks distortions as LPIPS does but has another
    scale and was never fitted to human judgements: it must not stand in a column called LPIPS.
    """

    name = "effl0-perceptual"

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EffNetLite0(EncoderConfig(), image_size=0, options=EffNetOptions(stage="stride32"))
        self.network: Any = self.encoder.build(self.encoder.architecture)

    def load(self, folder: str) -> None:
        self.network = self.encoder.network(torch.device("cpu"))

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        stem, *layers = self.network
        x = stem((255 * images - 127) / 128)
        for layer in layers:
            before, x = x, layer(x)
            if x.shape[-1] < before.shape[-1]:
                yield before
        yield x

    def compare(self, differences: list[Tensor]) -> Tensor:
        return torch.stack([difference.sum(1).mean((1, 2)) / 2 for difference in differences]).mean(0)


def open_perceptual(kind: Kind, folder: str = "") -> PerceptualDistance:
    """A perceptual distance with its published weights, frozen; see :meth:`PerceptualDistance.load`."""
    with seeded(0, "weights that the files replace"):
        distance = blank_perceptual(kind)
    distance.load(folder)
    return distance.eval().requires_grad_(False)


def blank_perceptual(kind: Kind) -> PerceptualDistance:
    """The same without its weights: what it costs doesn't depend on them."""
    return EfficientNetDistance() if kind == "effnet-lite0" else LPIPS("alex" if kind == "lpips-alex" else "vgg")
