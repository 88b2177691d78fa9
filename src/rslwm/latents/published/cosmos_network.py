"""The network of the continuous Cosmos image tokenizers (NVIDIA, arXiv 2501.03575), as the sizes of their files fix it.

A convolutional autoencoder of the latent diffusion family (arXiv 2112.10752) on Haar coefficients instead of pixels.
Modules are named so that parameters have the names they have in the published files.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count, takewhile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rslwm.latents.ldm_decoder import ResidualBlock, Upsample, norm
from rslwm.latents.published.base import Architecture

GROUPS = 32


@dataclass(frozen=True)
class CosmosArchitecture(Architecture):
    """Of both halves; the decoder mirrors the encoder, with one block more a level."""

    width: int = 128
    multipliers: tuple[int, ...] = (2, 4, 4)
    """Of the width, one a level; as many levels as it takes to reach the patch size halve the grid."""
    blocks: int = 2
    """Residual blocks a level of the encoder."""
    wavelets: int = 2
    """Levels of the Haar transform."""
    z: int = 16
    """Channels between the network and the 1 x 1 convolution that makes the latents."""

    @property
    def halvings(self) -> int:
        """Levels that halve the grid, after the Haar transform."""
        return self.patch.bit_length() - 1 - self.wavelets


class CosmosTokenizer(nn.Module):
    """``encoder`` takes images (N, 3, H, W) in [-1, 1] to latents (N, C, h, w), alone or first in a tuple; ``decoder``
    back."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


def tokenizer(a: CosmosArchitecture) -> CosmosTokenizer:
    """Both halves, untrained."""
    return CosmosTokenizer(
        _named(encoder=_encoder(a), quant_conv=nn.Conv2d(a.z, a.channels, 1), distribution=Deterministic()),
        _named(post_quant_conv=nn.Conv2d(a.channels, a.z, 1), decoder=_decoder(a)),
    )


def measured(encoder: Mapping[str, torch.Size]) -> CosmosArchitecture:
    """The sizes of a network from its encoder's parameters.

    Raises:
        KeyError: the first parameter that is needed and missing.
        ValueError: no such network has a first convolution of this shape.
    """
    width, bands = encoder["encoder.conv_in.weight"][:2]
    wavelets = round(math.log(bands / 3, 4))
    if width % GROUPS or bands != 3 * 4**wavelets:
        raise ValueError(f"a first convolution from {bands} to {width} channels")
    levels = max(1, _how_many(encoder, "encoder.down.{}.block.0.conv1.weight"))  # a missing first one has a name
    halvings = _how_many(encoder, "encoder.down.{}.downsample.conv.weight")
    widths = [encoder[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    return CosmosArchitecture(
        channels=encoder["quant_conv.weight"][0],
        patch=2 ** (wavelets + halvings),
        parameters=sum(shape.numel() for shape in encoder.values()),
        width=width,
        multipliers=tuple(w // width for w in widths),
        blocks=_how_many(encoder, "encoder.down.0.block.{}.conv1.weight"),
        wavelets=wavelets,
        z=encoder["encoder.conv_out.weight"][0],
    )


def _how_many(names: Collection[str], pattern: str) -> int:
    return sum(1 for _ in takewhile(lambda i: pattern.format(i) in names, count()))


def haar(x: Tensor) -> Tensor:
    """One level of the Haar transform, (N, c, H, W) -> (N, 4c, H/2, W/2): the mean of each 2 x 2 square, then half the
    differences between its rows, between its columns, and along its diagonals."""
    a, b, c, d = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 4)).unbind(2)
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 1) / 4


def inverse_haar(x: Tensor) -> Tensor:
    """(N, 4c, h, w) -> (N, c, 2h, 2w)."""
    a, b, c, d = x.chunk(4, 1)
    pixels = torch.stack([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 2)
    return F.pixel_shuffle(pixels.flatten(1, 2), 2)


class Patcher(nn.Module):
    """Levels of the Haar transform, each on all bands of the one before."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            x = haar(x)
        return x


class UnPatcher(Patcher):
    """The inverse."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            x = inverse_haar(x)
        return x


class Residual(ResidualBlock):
    shortcut = "nin_shortcut"


class Attention(nn.Module):
    """One head over all positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).mT.reshape_as(x))


class Downsample(nn.Module):
    """Halves the grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upwards(nn.ModuleList):
    """Levels numbered from the finest grid to the coarsest, run the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        for level in reversed(list(self)):
            x = level(x)
        return x


class Deterministic(nn.Module):
    """Returns the latents beside two zeros in a posterior's place, as the published autoencoders do."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return x, (x.new_zeros(1), x.new_zeros(1))


def _encoder(a: CosmosArchitecture) -> nn.Module:
    levels, inputs = [], a.width
    for level, multiplier in enumerate(a.multipliers):
        outputs = a.width * multiplier
        halve = {"downsample": Downsample(outputs)} if level < a.halvings else {}
        levels.append(_named(block=_blocks(inputs, outputs, a.blocks), **halve))
        inputs = outputs
    return _named(
        patcher=Patcher(a.wavelets),
        conv_in=nn.Conv2d(3 * 4**a.wavelets, a.width, 3, padding=1),
        down=nn.Sequential(*levels),
        mid=_middle(inputs),
        norm_out=norm(inputs),
        silu=nn.SiLU(),
        conv_out=nn.Conv2d(inputs, a.z, 3, padding=1),
    )


def _decoder(a: CosmosArchitecture) -> nn.Module:
    levels, inputs = Upwards(), a.width * a.multipliers[-1]
    conv_in, mid = nn.Conv2d(a.z, inputs, 3, padding=1), _middle(inputs)
    for level, multiplier in reversed(list(enumerate(a.multipliers))):
        outputs = a.width * multiplier
        double = {"upsample": Upsample(outputs)} if level >= len(a.multipliers) - a.halvings else {}
        levels.insert(0, _named(block=_blocks(inputs, outputs, a.blocks + 1), **double))
        inputs = outputs
    return _named(
        conv_in=conv_in,
        mid=mid,
        up=levels,
        norm_out=norm(inputs),
        silu=nn.SiLU(),
        conv_out=nn.Conv2d(inputs, 3 * 4**a.wavelets, 3, padding=1),
        unpatcher=UnPatcher(a.wavelets),
    )


def _blocks(inputs: int, outputs: int, number: int) -> nn.Module:
    return nn.Sequential(*(Residual(inputs if i == 0 else outputs, outputs) for i in range(number)))


def _middle(channels: int) -> nn.Module:
    first, second = Residual(channels, channels), Residual(channels, channels)
    return _named(block_1=first, attn_1=Attention(channels), block_2=second)


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))
