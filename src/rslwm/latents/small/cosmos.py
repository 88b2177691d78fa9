"""small-cosmos: wavelet-patched deterministic autoencoder, the idea of the Cosmos image tokenizer."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from rslwm.latents.base import ENCODERS
from rslwm.latents.small.backbone import PatchTransformer
from rslwm.latents.small.reconstruction import SmallAutoencoder


def haar(image: Tensor) -> Tensor:
    """One level of the orthonormal 2-d Haar transform: (B, H, W, c) -> (B, H/2, W/2, 4c), bands LL LH HL HH."""
    a, b = image[:, 0::2, 0::2], image[:, 0::2, 1::2]
    c, d = image[:, 1::2, 0::2], image[:, 1::2, 1::2]
    return torch.cat([a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d], -1) / 2


class WaveletTransformer(PatchTransformer):
    """The backbone on two-level Haar coefficients instead of pixels; the parameters are the same in number.

    The transform is orthonormal, so a squared error on coefficients is one on pixels; an absolute error is not: it
    favours sparse detail bands. Detail bands are scaled up, so that they aren't drowned by the mean.
    """

    detail_gain = 4.0

    def patches(self, frames: Tensor) -> Tensor:
        """(B, H, W, 3) in [0, 1] -> (B, h*w, patch values): scaled Haar coefficients of each patch."""
        x = haar(haar(2 * frames - 1))
        scale = torch.full((x.shape[-1],), self.detail_gain, dtype=x.dtype, device=x.device)
        scale[:3] = 1.0
        size = self.patch // 4
        return rearrange(x * scale / 2, "B (h p) (w q) c -> B (h w) (p q c)", p=size, q=size)


@ENCODERS.register("small-cosmos")
class SmallCosmos(SmallAutoencoder):
    """No sampling and no KL: a plain bottleneck, trained on wavelet coefficients."""

    name = "small-cosmos"
    variational = False

    def _backbone(self) -> PatchTransformer:
        if self.config.patch % 4:
            raise ValueError(
                f"small-cosmos: encoder.patch {self.config.patch} is not a multiple of 4 (two Haar levels)"
            )
        return WaveletTransformer(self.config, self.image_size)
