"""What encoding and decoding one frame costs, counted and not estimated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rslwm.latents.base import Encoder
from rslwm.latents.published.base import PublishedAutoencoder, PublishedEncoder

META = torch.device("meta")


def encoder_flops(encoder: Encoder) -> tuple[int, int]:
    """Floating-point operations of encoding one frame and of decoding it, two a multiply-add; 0 where it can't decode.

    A published network is counted on the meta device, which needs neither its weights nor their memory; another
    encoder encodes a black frame where it lies. Resizing isn't counted.
    """
    if isinstance(encoder, PublishedEncoder):
        return _published(encoder)
    size = encoder.image_size
    where = next((x.device for x in (*encoder.parameters(), *encoder.buffers())), torch.device("cpu"))
    frame = torch.zeros(1, 1, size, size, 3, device=where)
    latent = torch.zeros(1, 1, *encoder.spec.grid, encoder.spec.channels, device=where)
    return _count(lambda: encoder.encode(frame)), _count(lambda: encoder.decode(latent)) if encoder.decodes else 0


def _published(encoder: PublishedEncoder) -> tuple[int, int]:
    spec, side = encoder.spec, encoder.preprocessing.size
    with META:
        network = encoder.build(encoder.architecture).eval()
        image, latent = torch.empty(1, 3, side, side), torch.empty(1, *spec.grid, spec.channels)
    encode = _count(lambda: encoder.features(network, image))
    if not isinstance(encoder, PublishedAutoencoder):
        return encode, 0
    return encode, _count(lambda: encoder.images(network, latent))


@torch.no_grad()
def _count(work: Callable[[], Tensor]) -> int:
    # Not every fused attention is known to the counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
