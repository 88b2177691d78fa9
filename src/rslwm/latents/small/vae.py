"""small-vae: KL autoencoder, the idea of latent diffusion's VAE."""

from __future__ import annotations

from rslwm.latents.base import ENCODERS
from rslwm.latents.small.reconstruction import SmallAutoencoder


@ENCODERS.register("small-vae")
class SmallVAE(SmallAutoencoder):
    """Gaussian bottleneck with a light KL penalty; the latent is the posterior mean."""

    name = "small-vae"
