"""What this machine lacks for a row of the paper, asked when it is wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from rslwm.data.config import split_uri
from rslwm.latents.base import Encoder
from rslwm.latents.perceptual import TRUNKS
from rslwm.latents.published.base import PublishedEncoder
from rslwm.latents.published.weights import MissingWeights, in_place
from rslwm.study.config import PRESETS
from rslwm.study.entry import Entry

BRIDGE, SOAR = "rlds:bridge_dataset/1.0.0", "rlds:soar_dataset/1.0.0"
"""Where the commands expect the data sets, below the current folder."""


@dataclass(frozen=True)
class Machine:
    """``weights`` is a folder of weights, see :func:`rslwm.latents.published.weights.find_weights`; ``bridge`` and
    ``soar`` are data sets as ``--data`` takes them."""

    weights: str = ""
    bridge: str = BRIDGE
    soar: str = SOAR

    def encoder(self, name: str) -> str:
        """What of a space of a study is missing; empty if it is here."""
        encoder = _encoder(Entry.parse(name).reference, self.weights)
        try:
            encoder.require_weights()
        except MissingWeights:
            size = f" ({encoder.needed().megabytes:,} MB)" if isinstance(encoder, PublishedEncoder) else ""
            return f"weights of {encoder.spec.name}{size}"
        return ""

    def network(self, name: str) -> str:
        """What of ``lpips-alex`` or ``lpips-vgg`` is missing, where torchvision keeps its downloads."""
        source = TRUNKS[name.removeprefix("lpips-")].source
        try:
            in_place(name, source, Path(torch.hub.get_dir()) / "checkpoints")
        except MissingWeights:
            return f"{source.files[0]} for {name} ({source.megabytes:,} MB)"
        return ""

    def data(self, name: str) -> str:
        """Whether the folder is there that ``bridge`` or ``soar`` names."""
        uri, title = (self.bridge, "BridgeData V2") if name == "bridge" else (self.soar, "SOAR")
        here = Path(split_uri(uri)[1]).expanduser().exists() or uri.startswith("hf://")
        return "" if here else f"{title} ({uri})"

    def gpu(self) -> str:
        """Whether there is one."""
        return "" if torch.cuda.is_available() else "a GPU"


@cache
def _encoder(reference: str, weights: str) -> Encoder:
    config = PRESETS["bridge"]
    config = replace(config, encoder=replace(config.encoder, weights=weights))
    return Entry.parse(reference).open(config).encoder
