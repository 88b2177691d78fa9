"""V-JEPA 2.1, frame by frame (Mur-Labadia et al., arXiv 2603.14482)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from einops import rearrange
from torch import Tensor, nn

from rslwm.latents.base import ENCODERS, EncoderConfig
from rslwm.latents.published.base import Architecture, Options, PublishedEncoder, blank, require
from rslwm.latents.published.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from rslwm.latents.published.vjepa_network import HEAD, LEVELS, VJEPA, VJEPAConfig
from rslwm.latents.published.weights import Source, Weights
from rslwm.tensors import read_tensors, take_weights, tensors_in

FILE = "vjepa2_1_vitl_dist_vitG_384.pt"
ENTRIES = ("ema_encoder", "target_encoder", "encoder")
BARE = "file"


@dataclass(frozen=True)
class VJEPAOptions(Options):
    level: Literal["last", "multi"] = "last"
    """The last block's output (the paper's code), or that of four levels beside each other, four times as wide."""
    entry: Literal["", "ema_encoder", "target_encoder", "encoder", "file"] = ""
    """State dict to read, or the file itself if it is one; empty takes the first of these that is there (the official
    code: the moving average, whose name differs between sizes). The one taken is recorded."""


@dataclass(frozen=True)
class VJEPAArchitecture(Architecture):
    network: VJEPAConfig = field(default_factory=VJEPAConfig)
    entry: str = ENTRIES[0]


@ENCODERS.register("vjepa2.1")
class VJEPA21(PublishedEncoder):
    """The ViT-L/16 that was distilled from ViT-G, on the path for images; the other sizes load as well."""

    name = "vjepa2.1"
    family = "semantic"
    source = Source(
        (FILE,),
        megabytes=1219,  # of the encoder; the file holds more, its size isn't published
        licence="MIT (of its repository)",
        revision="unversioned",
        url=f"https://dl.fbaipublicfiles.com/vjepa2/{FILE}",
    )
    published = VJEPAArchitecture(channels=1024, patch=16, parameters=304_680_960)
    options_type = VJEPAOptions
    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, config: EncoderConfig, image_size: int, options: Options | None = None) -> None:
        super().__init__(config, image_size, options)
        levels = len(self.architecture.network.levels) if self.options.level == "multi" else 1
        record = {**self.spec.preprocessing, "entry": self.options.entry or self.architecture.entry}
        self.spec = replace(self.spec, channels=levels * self.architecture.channels, preprocessing=record)

    def measure(self, weights: Weights) -> VJEPAArchitecture:
        entry, tensors = self._tensors(weights)
        ours = {_bare(name): x for name, x in tensors.items()}
        needed = {"patch_embed.proj.weight": 5, "patch_embed_img.proj.weight": 5, "blocks.0.mlp.fc1.weight": 2}
        for name, axes in needed.items():
            require(name in ours, weights, f"tensor {name!r} is missing from {entry}: this is no V-JEPA 2.1")
            require(ours[name].ndim == axes, weights, f"tensor {name!r} is {tuple(ours[name].shape)}, not {axes}-d")
        video, image, fc1 = (ours[name] for name in needed)
        width, patch = image.shape[0], image.shape[-1]
        require(width % HEAD == 0, weights, f"its width is {width}, which heads of {HEAD} channels don't divide")
        depth = 1 + max(int(index) for name in ours for index in re.findall(r"^blocks\.(\d+)\.", name))
        require(depth >= LEVELS, weights, f"has {depth} block(s), too few for {LEVELS} levels")
        network = VJEPAConfig(width, depth, fc1.shape[0], patch, video.shape[2])
        return VJEPAArchitecture(width, patch, sum(x.numel() for x in tensors.values()), network, entry)

    def build(self, architecture: VJEPAArchitecture) -> nn.Module:
        return VJEPA(architecture.network)

    def load(self, weights: Weights) -> nn.Module:
        _, tensors = self._tensors(weights)
        written = {_bare(name): name for name in tensors}
        network = blank(lambda: self.build(self.architecture))
        take_weights(network, tensors, weights.file, lambda name: written.get(name, name))
        return network

    def features(self, network: Any, images: Tensor) -> Tensor:
        tokens = network(rearrange(images, "N c H W -> N c 1 H W"), multi=self.options.level == "multi")
        return rearrange(tokens, "N (h w) C -> N h w C", h=self.spec.grid[0])

    def _tensors(self, weights: Weights) -> tuple[str, dict[str, Tensor]]:
        """The encoder's state dict as it is written, and where in the file it is."""
        content = read_tensors(weights.file)
        entry = self.options.entry or next((name for name in ENTRIES if name in content), BARE)
        if entry == BARE:
            return entry, tensors_in(content, weights.file)
        held = content.get(entry)
        require(isinstance(held, dict), weights, f"holds no state dict {entry!r} but {', '.join(map(str, content))}")
        return entry, tensors_in(content[entry], weights.file)


def _bare(name: str) -> str:
    """A tensor's name without what wrappers put before it while the network was trained."""
    return re.sub(r"^((module|backbone)\.)+", "", name)
