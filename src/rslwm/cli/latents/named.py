"""What the commands about one encoder have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rslwm.compute import ComputeConfig
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

    def study(self) -> StudyConfig:
        """A study of this encoder."""
        entry, config = self.entry, self.encoder
        if self.weights and self._above(entry):
            config = replace(config, weights=self.weights)
        size = self.image_size or entry.encoder.frame_size(config) or DataConfig.image_size
        return StudyConfig(data=DataConfig(image_size=size), encoder=config)

    def open(self) -> Encoder:
        """The encoder, untrained; a published one without having loaded its weights.

        Raises:
            UnknownName: nothing answers to the name.
            ConfigError: it can't be built, for instance of the choices that were made.
        """
        return self.entry.open(self.study()).encoder.eval()

    def _above(self, entry: Entry) -> bool:
        return (Path(self.weights).expanduser() / entry.reference).exists()


@dataclass
class DataCommand(EncoderCommand):
    """A command about an encoder on frames of a data set."""

    data: str = DataConfig.uri
    """Where frames come from: sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE."""
    camera: str = DataConfig.camera
    """The camera, or several, comma separated, for a space of several views; empty takes the data set's first."""
    features: Annotated[tuple[str, ...], tyro.conf.arg(name="data.features")] = ()
    """Features that the data call otherwise, each as OURS=THEIRS: action=actions,observation.images.front=image."""
    action_spec: Annotated[str, tyro.conf.arg(name="data.action-spec")] = ""
    """YAML or JSON file with the action spec of data that don't carry one."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def study(self) -> StudyConfig:
        config = super().study()
        return replace(config, data=replace(self.source, image_size=config.data.image_size), compute=self.compute)

    @property
    def source(self) -> DataConfig:
        """The data set, its frames as large as by default."""
        return DataConfig(uri=self.data, camera=self.camera, features=self.features, action_spec=self.action_spec)
