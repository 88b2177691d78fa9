"""Features that another program makes: a space that can be generated in and decoded without the network behind it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rslwm.latents.base import Encoder, EncoderConfig
from rslwm.types import DataError, Family, LatentSpec

EXTERNAL = "external"
"""What a space's reference says if its encoder is one of these."""


@dataclass(frozen=True)
class ExternalConfig:
    """What is known of features that come from elsewhere."""

    name: str = ""
    family: Family = "semantic"
    grid: tuple[int, int] = (16, 16)
    """Rows and columns of one view's features."""
    channels: int = 0


class ExternalEncoder(Encoder):
    """Knows what its features look like, and can't make them."""

    def __init__(self, external: ExternalConfig, config: EncoderConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.spec = LatentSpec(
            external.name, external.family, external.grid, external.channels, licence="unknown",
            preprocessing={"encoder": "another program"},
        )  # fmt: skip

    def encode(self, frames: Tensor) -> Tensor:
        """Refuses.

        Raises:
            DataError: always; the message says what to do instead.
        """
        raise DataError(
            f"{self.spec.name}: frames can't be encoded here, the network isn't part of this space. Make its features "
            "(B, T, h, w, C) elsewhere and give them to world_model.space.compress(features)"
        )
