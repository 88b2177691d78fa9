"""The autoencoder of Stable Diffusion 3 (Esser et al., arXiv 2403.03206)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS
from rslwm.latents.published.autoencoder_kl import KLArchitecture, KLAutoencoder, KLOptions
from rslwm.latents.published.base import blank, require
from rslwm.latents.published.weights import Source, Weights, read_json
from rslwm.tensors import load_weights

CONFIG = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


@dataclass(frozen=True)
class SD3Options(KLOptions):
    shift: bool = True
    """Subtract the published shift before scaling (the paper's code: no)."""


@ENCODERS.register("sd3-vae")
class SD3VAE(KLAutoencoder):
    """A KL autoencoder at an eighth of the resolution: 32 x 32 x 16 latents of 256 px frames."""

    name = "sd3-vae"
    family = "reconstruction"
    source = Source(
        ("vae/diffusion_pytorch_model.safetensors", "vae/config.json"),
        megabytes=168,
        licence="Stability AI Community (gated)",
        repository="stabilityai/stable-diffusion-3-medium-diffusers",
        revision="ea42f8cef0f178587cf766dc8129abd379c90671",
    )
    published = KLArchitecture(channels=16, patch=8, parameters=34_274_208, config=CONFIG)
    options_type = SD3Options

    def measure(self, weights: Weights) -> KLArchitecture:
        path = weights.file.with_name("config.json")
        config = read_json(path)
        require(config.get("_class_name") == "AutoencoderKL", weights, f"{path.name} beside it is of no AutoencoderKL")
        for key in CONFIG:
            require(key in config, weights, f"{path.name} beside it lacks {key!r}")
        return self.sized(config)

    def load(self, weights: Weights) -> nn.Module:
        network = blank(lambda: self.build(self.architecture))
        load_weights(network, weights.file)
        return network

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        config = self.architecture.config
        shift = (config["shift_factor"] or 0.0) if self.options.shift else 0.0
        return torch.tensor(shift), torch.tensor(config["scaling_factor"])
