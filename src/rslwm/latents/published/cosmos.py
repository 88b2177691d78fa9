"""The continuous image tokenizer of Cosmos at a sixteenth of the resolution (NVIDIA, arXiv 2501.03575)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS
from rslwm.latents.published.base import PublishedAutoencoder
from rslwm.latents.published.cosmos_network import CosmosArchitecture, CosmosTokenizer, measured, tokenizer
from rslwm.latents.published.weights import Source, Weights
from rslwm.tensors import require_shapes
from rslwm.trust import FLAG, VARIABLE, trusted
from rslwm.types import DataError, LatentSpec

DECODER = "decoder.jit"


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
        except KeyError as error:
            raise DataError(f"{weights.file}: tensor {error} is missing; this is not the encoder of a Cosmos") from None
        except ValueError as error:
            raise DataError(f"{weights.file}: not the encoder of a Cosmos image tokenizer: {error}") from None

    def take_place(self, recorded: LatentSpec, where: Path) -> None:
        if trusted():
            super().take_place(recorded, where)
        else:
            self.spec = recorded  # the programs weren't opened, nothing is known of them

    def build(self, architecture: CosmosArchitecture) -> CosmosTokenizer:
        return tokenizer(architecture)

    def load(self, weights: Weights) -> CosmosTokenizer:
        encoder, decoder = weights.file, weights.file.with_name(DECODER)
        if not trusted():
            raise DataError(
                f"{encoder} is TorchScript, which can run code of its own. It isn't opened unless you trust whoever "
                f"gave it to you (published by {self.source.repository}, licence: {self.source.licence}) and say so "
                f"with {FLAG}, or {VARIABLE}=1 in the environment"
            )
        a: CosmosArchitecture = self.architecture
        with torch.device("meta"):
            described = self.build(a)
        images, latents = (1, 3, 2 * a.patch, 2 * a.patch), (1, a.channels, 2, 2)
        return CosmosTokenizer(
            self._half(encoder, described.encoder, images, latents),
            self._half(decoder, described.decoder, latents, images),
        )

    def _half(self, file: Path, described: nn.Module, given: tuple[int, ...], expected: tuple[int, ...]) -> nn.Module:
        """The program in a file, if it holds the described tensors and makes of one input what it should."""
        script = open_script(file)
        _same_parameters(script, described, file)
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
    """A TorchScript file on the CPU. Only for files that the user trusts.

    Raises:
        DataError: it is missing, truncated or something else.
    """
    if not file.is_file():
        raise DataError(f"{file} does not exist")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
        try:
            return torch.jit.load(file, map_location="cpu")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"{file} is truncated or not a TorchScript file ({reason})") from None


def _same_parameters(script: nn.Module, described: nn.Module, file: Path) -> None:
    """Parameters only: a traced program also holds constants, which depend on how it was traced."""
    expected = {name: x.shape for name, x in described.named_parameters()}
    require_shapes(dict(script.named_parameters()), expected, file)


def _first(result: Any) -> Any:
    """Programs traced from different versions return their result alone or first in a tuple or list."""
    return result[0] if isinstance(result, (tuple, list)) else result
