"""The latent of a variational autoencoder: its posterior's mean, or one draw from it."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from torch import Tensor

Posterior = Literal["mode", "sample"]


def latent(mean: Tensor, std: Tensor, images: Tensor, kind: Posterior) -> Tensor:
    """Latents (N, ...) of images (N, ...).

    A draw depends on nothing but its image: a frame has the same latent whenever, and beside whatever, it is encoded.
    """
    if kind == "mode" or images.is_meta:  # where operations are only counted there is no image to draw for
        return mean
    noise = torch.stack([_noise(image, mean.shape[1:]) for image in images])
    return mean + std * noise.to(mean)


def _noise(image: Tensor, shape: torch.Size) -> Tensor:
    content = image.float().cpu().numpy().tobytes()
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
