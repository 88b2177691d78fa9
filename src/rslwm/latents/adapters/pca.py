"""Principal components: what a linear map without any training makes of a space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rslwm.latents.adapters.base import Adapter, AdapterConfig

ROWS = 2**14
"""Tokens that are taken to double precision at once."""


class PCA(Adapter):
    """Projection onto the d directions of most variance and back; of all linear maps, the least squared error."""

    label, trainable = "PCA", False
    mean: Tensor
    components: Tensor

    def __init__(self, config: AdapterConfig, width: int, channels: int) -> None:
        super().__init__(config, width, channels)
        if channels > width:
            raise ValueError(f"PCA can't make {channels} channels of the {width} channels of the native space")
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.eye(channels, width))

    def compress(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):  # exact, as it was fitted
            return (tokens.float() - self.mean) @ self.components.mT

    def reconstruct(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return z.float() @ self.components + self.mean

    @property
    def encoder_tensors(self) -> list[Tensor]:
        return [self.mean, self.components]

    def fit(self, features: Iterable[Tensor]) -> dict[str, float]:
        """Take the mean and the leading eigenvectors of the covariance of streamed (..., D) features.

        Returns:
            ``mse``, the squared error of reconstructing them, and ``explained``, the share of their variance that is
            kept.
        """
        count = 0
        total = torch.zeros(self.width, dtype=torch.float64)
        products = torch.zeros(self.width, self.width, dtype=torch.float64)
        for part in features:
            for rows in part.flatten(0, -2).split(ROWS):
                x = rows.double()
                count += len(x)
                total += x.sum(0)
                products += x.mT @ x
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        components = vectors[:, -self.channels :].flip(1).mT
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        self.mean.copy_(mean)
        self.components.copy_(components * largest.sign())  # an eigenvector's sign is arbitrary
        lost = variances[: -self.channels].sum().clamp_min(0)
        return {"mse": float(lost / self.width), "explained": 1 - float(lost / variances.sum().clamp_min(1e-30))}
