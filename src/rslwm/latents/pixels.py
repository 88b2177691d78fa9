"""How the latents of a space become pixels: by a decoder that was trained on them, by the encoder's own, or by that of
a compressed space of the same encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from rslwm.latents.adapters.base import Adapter
from rslwm.latents.decoder import DecoderConfig, PixelDecoder, SubPixelDecoder
from rslwm.latents.ldm_decoder import LDMDecoder
from rslwm.latents.normaliser import Normaliser
from rslwm.types import LatentSpec

if TYPE_CHECKING:
    from rslwm.latents.space import LatentSpace

DECODERS: dict[str, type[PixelDecoder]] = {"sub-pixel": SubPixelDecoder, "ldm": LDMDecoder}
"""By ``DecoderConfig.kind``."""


def open_decoder(config: DecoderConfig, spec: LatentSpec, image_size: int) -> PixelDecoder:
    """An untrained decoder of the configured kind.

    Raises:
        ValueError: it can't make frames of this size of this grid.
    """
    return DECODERS[config.kind](config, spec, image_size)


class PixelPath(nn.Module):
    """The way from latents to pixels that a space has, or lacks."""

    def settings(self) -> dict[str, Any]:
        """The fields of :class:`rslwm.latents.space.SpaceConfig` that rebuild it."""
        raise NotImplementedError

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        """Normalised latents of single views (B, T, h, w, C) -> (B, T, H, W, 3), [0, 1] up to what a network
        overshoots."""
        raise NotImplementedError


class TrainedDecoder(PixelPath):
    """A pixel decoder that was trained on the space's own latents."""

    def __init__(self, decoder: PixelDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def settings(self) -> dict[str, Any]:
        return {"decoder": self.decoder.config, "decoder_channels": 0}

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        return self.decoder(latents)


class OwnDecoder(PixelPath):
    """The decoder that the encoder brings along; nothing of it is the space's to keep."""

    def settings(self) -> dict[str, Any]:
        return {"decoder": DecoderConfig(own=True), "decoder_channels": 0}

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        return space.encoder.decode(space.restore(latents))


class TwinDecoder(PixelPath):
    """The pixel decoder of a compressed space of the same encoder, behind that one's adapter and normaliser."""

    def __init__(self, adapter: Adapter, normaliser: Normaliser, decoder: PixelDecoder) -> None:
        super().__init__()
        self.adapter, self.normaliser, self.decoder = adapter, normaliser, decoder

    @classmethod
    def of(cls, twin: LatentSpace) -> Self:
        """That of this space, which has an adapter and a decoder that was trained on its latents."""
        assert twin.adapter is not None
        assert isinstance(twin.pixels, TrainedDecoder)
        return cls(twin.adapter, twin.normaliser, twin.pixels.decoder)

    def settings(self) -> dict[str, Any]:
        config, adapter = self.decoder.config, self.adapter
        return {"decoder": config, "decoder_channels": adapter.channels, "adapter": adapter.config}

    def forward(self, latents: Tensor, space: LatentSpace) -> Tensor:
        return self.decoder(self.normaliser(self.adapter.encode(space.restore(latents))))
