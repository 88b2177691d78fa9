"""A Cosmos tokenizer of a megabyte: both halves traced in bfloat16, as NVIDIA publishes them."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rslwm.compute import seeded
from rslwm.latents.published.cosmos import CosmosArchitecture, tokenizer

ARCHITECTURE = CosmosArchitecture(channels=8, patch=16, parameters=0, width=32, multipliers=(1, 2, 1), blocks=1, z=8)
IMAGES, LATENTS = (1, 3, 64, 64), (1, 8, 4, 4)


class Deterministic(nn.Module):
    """Returns the latents beside two zeros in a posterior's place, as the published program does."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return x, (x.new_zeros(1), x.new_zeros(1))


def network() -> Any:
    """The same one at every call."""
    with seeded(0, "tiny cosmos"):
        made = tokenizer(ARCHITECTURE).eval().requires_grad_(False).to(torch.bfloat16)
    made.encoder.add_module("distribution", Deterministic())
    return made


def write(folder: Path) -> Path:
    place = folder / "cosmos-ci16"
    place.mkdir(parents=True)
    tiny = network()
    trace(tiny.encoder, IMAGES, place / "encoder.jit")
    trace(tiny.decoder, LATENTS, place / "decoder.jit")
    return place


def trace(module: nn.Module, given: tuple[int, ...], file: Path) -> None:
    """Write what a bfloat16 module does with an input of this shape as TorchScript."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and says of every shape that it looks at it
        torch.jit.trace(module, torch.zeros(given, dtype=torch.bfloat16), check_trace=False).save(file)
