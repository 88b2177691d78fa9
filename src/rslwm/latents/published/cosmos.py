"""The continuous image tokenizer of Cosmos at a sixteenth of the resolution (NVIDIA, arXiv 2501.03575).

A convolutional autoencoder of the latent diffusion family (arXiv 2112.10752) on Haar coefficients instead of pixels.
Its modules are named so that parameters have the names they have in the published files.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS
from rslwm.latents.ldm_decoder import PixelAttention, ResidualBlock, norm, upsample
from rslwm.latents.published.base import Architecture, PublishedAutoencoder
from rslwm.latents.published.weights import Source, Weights
from rslwm.tensors import require_shapes
from rslwm.trust import FLAG, VARIABLE, trusted
from rslwm.types import DataError, LatentSpec

DECODER = "decoder.jit"
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


def tokenizer(a: CosmosArchitecture) -> Any:
    """Untrained: ``encoder`` takes images (N, 3, H, W) in [-1, 1] to latents (N, C, h, w), ``decoder`` back."""
    return _named(
        encoder=_named(encoder=_encoder(a), quant_conv=nn.Conv2d(a.z, a.channels, 1)),
        decoder=_named(post_quant_conv=nn.Conv2d(a.channels, a.z, 1), decoder=_decoder(a)),
    )


def measured(encoder: Mapping[str, torch.Size]) -> CosmosArchitecture:
    """The sizes of a network from its encoder's parameters; raises KeyError of the first one that is missing,
    ValueError if the first convolution has another shape."""
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

    transform = staticmethod(haar)

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            x = self.transform(x)
        return x


class UnPatcher(Patcher):
    """The inverse."""

    transform = staticmethod(inverse_haar)


class Residual(ResidualBlock):
    shortcut = "nin_shortcut"


class Attention(PixelAttention):
    """Of one head, in operations that a program traced from it repeats in any precision."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).mT for layer in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).mT.reshape_as(x))


class Upwards(nn.ModuleList):
    """Levels numbered from the finest grid to the coarsest, run the other way round."""

    def forward(self, x: Tensor) -> Tensor:
        for level in reversed(list(self)):
            x = level(x)
        return x


def _encoder(a: CosmosArchitecture) -> nn.Module:
    levels, inputs = [], a.width
    for level, multiplier in enumerate(a.multipliers):
        outputs = a.width * multiplier
        halve = {"downsample": _downsample(outputs)} if level < a.halvings else {}
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
        double = {"upsample": upsample(outputs)} if level >= len(a.multipliers) - a.halvings else {}
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


def _downsample(channels: int) -> nn.Module:
    return _named(pad=nn.ZeroPad2d((0, 1, 0, 1)), conv=nn.Conv2d(channels, channels, 3, stride=2))


def _blocks(inputs: int, outputs: int, number: int) -> nn.Module:
    return nn.Sequential(*(Residual(inputs if i == 0 else outputs, outputs) for i in range(number)))


def _middle(channels: int) -> nn.Module:
    first, second = Residual(channels, channels), Residual(channels, channels)
    return _named(block_1=first, attn_1=Attention(channels, heads=1), block_2=second)


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


@ENCODERS.register("cosmos-ci16")
class Cosmos(PublishedAutoencoder):
    """A deterministic autoencoder on wavelet coefficients: 16 x 16 x 16 latents of 256 px frames.

    It is published as TorchScript, a program beside its weights. That program is what encodes and decodes; our own
    description of the network says which tensors it has to hold, and what it costs.
    """

    name = "cosmos-ci16"
    family = "reconstruction"
    source = Source(
        ("encoder.jit", DECODER),
        megabytes=163,
        licence="NVIDIA Open Model",
        repository="nvidia/Cosmos-0.1-Tokenizer-CI16x16",
    )
    published = CosmosArchitecture(channels=16, patch=16, parameters=33_513_632)

    def measure(self, weights: Weights) -> CosmosArchitecture:
        if not trusted():
            return self.published
        encoder = open_script(weights.file)
        try:
            return measured({name: x.shape for name, x in encoder.named_parameters()})
        except (KeyError, ValueError) as error:
            what = f"tensor {error} is missing" if isinstance(error, KeyError) else error
            raise DataError(f"{weights.file} is not the encoder of a Cosmos image tokenizer: {what}") from None

    def take_place(self, recorded: LatentSpec, where: Path) -> None:
        if trusted():
            super().take_place(recorded, where)
        else:
            self.spec = recorded  # the programs weren't opened, nothing is known of them

    def build(self, architecture: CosmosArchitecture) -> nn.Module:
        return tokenizer(architecture)

    def load(self, weights: Weights) -> nn.Module:
        encoder, decoder = weights.file, weights.file.with_name(DECODER)
        if not trusted():
            origin = f"published by {self.source.repository}, licence: {self.source.licence}"
            raise DataError(
                f"{encoder} is TorchScript, which can run code of its own. If you trust whoever gave it to you "
                f"({origin}), say so with {FLAG}, or {VARIABLE}=1 in the environment"
            )
        a: CosmosArchitecture = self.architecture
        with torch.device("meta"):
            described = tokenizer(a)
        images, latents = (1, 3, 2 * a.patch, 2 * a.patch), (1, a.channels, 2, 2)
        return _named(
            encoder=self._half(encoder, described.encoder, images, latents),
            decoder=self._half(decoder, described.decoder, latents, images),
        )

    def _half(self, file: Path, described: nn.Module, given: tuple[int, ...], expected: tuple[int, ...]) -> nn.Module:
        """The program in a file, if it holds the described tensors and makes of one input what it should."""
        script = open_script(file)
        # Parameters only: a traced program also holds constants, which depend on how it was traced.
        expected_shapes = {name: x.shape for name, x in described.named_parameters()}
        require_shapes(dict(script.named_parameters()), expected_shapes, file)
        script = script.to(self.network_dtype).eval()
        kind = self.options.dtype
        other = "float32" if kind == "bfloat16" else "bfloat16"
        try:
            with torch.no_grad():
                result = _first(script(torch.zeros(given, dtype=self.network_dtype)))
        except RuntimeError as error:  # a traced program may hold on to the precision it was traced in
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"{file} doesn't run in {kind} ({reason}); try {self.name}[dtype={other}]") from None
        if not (isinstance(result, Tensor) and result.shape == expected):
            found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise DataError(f"{file} makes {found} of {given}, expected {expected}; is it another Cosmos tokenizer?")
        if result.dtype != self.network_dtype:
            raise DataError(f"{file} computes in {result.dtype}, not in {kind}; try {self.name}[dtype={other}]")
        return script

    def features(self, network: Any, images: Tensor) -> Tensor:
        return rearrange(_first(network.encoder(images)), "N C h w -> N h w C")

    def images(self, network: Any, latents: Tensor) -> Tensor:
        return _first(network.decoder(rearrange(latents, "N h w C -> N C h w")))


def open_script(file: Path) -> nn.Module:
    """A TorchScript file on the CPU, if the user trusts it; raises :class:`DataError` if it is missing, truncated or
    something else."""
    if not file.is_file():
        raise DataError(f"{file} does not exist")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
        try:
            return torch.jit.load(file, map_location="cpu")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"{file} is truncated or not a TorchScript file ({reason})") from None


def _first(result: Any) -> Any:
    """Programs traced from different versions return their result alone or first in a tuple or list."""
    return result[0] if isinstance(result, (tuple, list)) else result
