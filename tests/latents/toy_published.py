"""A published autoencoder of one convolution a side: small enough for closed forms, and in need of no file."""

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.published.base import Architecture, Options, PublishedAutoencoder
from rslwm.latents.published.weights import Source

PATCH, CHANNELS = 4, 5
PARAMETERS = 3 * PATCH**2 * CHANNELS + CHANNELS


class Toy(PublishedAutoencoder):
    name = "toy"
    family = "reconstruction"
    source = Source(("toy.safetensors",), megabytes=1, licence="MIT", url="https://example.org/toy.safetensors")
    published = Architecture(channels=CHANNELS, patch=PATCH, parameters=PARAMETERS)
    options_type = Options

    def build(self, architecture: Architecture) -> nn.Module:
        down = nn.Conv2d(3, CHANNELS, PATCH, PATCH)
        return nn.ModuleDict({"down": down, "up": nn.ConvTranspose2d(CHANNELS, 3, PATCH, PATCH)})

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        self.largest = max(getattr(self, "largest", 0), len(images))
        return rearrange(network["down"](images), "N C h w -> N h w C")

    def images(self, network: nn.Module, latents: Tensor) -> Tensor:
        return torch.tanh(network["up"](rearrange(latents, "N h w C -> N C h w")))
