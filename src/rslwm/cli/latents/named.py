"""What the commands about one encoder have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from rslwm.data.config import DataConfig
from rslwm.latents.base import EncoderConfig
from rslwm.study.config import StudyConfig

if TYPE_CHECKING:
    from rslwm.latents.base import Encoder
    from rslwm.study.entry import Entry


@dataclass
class EncoderCommand:
    """A command about an encoder; a published one's choices stand behind its name."""

    name: tyro.conf.Positional[str]
    """A name of `rslwm latents list`, with choices such as sd3-vae[shift=no], or path/to/file.py:Class."""
    weights: str = ""
    """A published encoder's file or folder, or the folder above several; else the hub's cache is looked into."""
    image_size: int = 0
    """Pixels of the frames; 0 is --encoder.input-size for published encoders, and 64 for others."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    @property
    def entry(self) -> Entry:
        """The encoder that is named, with its choices."""
        from rslwm.study.entry import Entry

        entry = Entry.parse(self.name)
        if not self.weights or self._above(entry):
            return entry
        return replace(entry, options=(*entry.options, ("weights", self.weights)))

    def study(self, uri: str = DataConfig.uri, camera: str = DataConfig.camera) -> StudyConfig:
        """A study of this encoder on these data."""
        entry, config = self.entry, self.encoder
        if self.weights and self._above(entry):
            config = replace(config, weights=self.weights)
        size = self.image_size or entry.encoder.frame_size(config) or DataConfig.image_size
        return StudyConfig(data=DataConfig(uri=uri, camera=camera, image_size=size), encoder=config)

    def open(self) -> Encoder:
        """The encoder, untrained; a published one without having loaded its weights.

        Raises:
            UnknownName: nothing answers to the name.
            ConfigError: it can't be built, for instance of the choices that were made.
        """
        return self.entry.open(self.study()).encoder.eval()

    def _above(self, entry: Entry) -> bool:
        return (Path(self.weights).expanduser() / entry.reference).exists()
