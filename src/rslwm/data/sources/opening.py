"""What SCHEME:LOCATION leads to."""

from __future__ import annotations

import json
from pathlib import Path

from rslwm.data.config import DataConfig, split_uri
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources import lerobot, sim  # noqa: F401 - they register themselves
from rslwm.data.sources.base import SOURCES, Source
from rslwm.data.sources.foreign import Foreign
from rslwm.data.sources.hdf5 import Hdf5
from rslwm.data.sources.rlds import Rlds
from rslwm.serialisation import ConfigError
from rslwm.types import Progress, silent

URIS = "lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE"
"""Where data of one's own may be."""


def open_source(config: DataConfig) -> Source:
    """The source of ``config.uri``: SCHEME:LOCATION, or path/to/file.py:Class:LOCATION for one of your own. Raises
    ConfigError: it has no scheme, or its location can't be one. Raises UnknownName: no data source of this scheme."""
    if not config.uri:
        return Nowhere("", config)
    scheme, location = split_uri(config.uri)
    if not scheme:
        forms = ", ".join(f"{name}:..." for name in SOURCES)
        raise ConfigError(f"data.uri: {config.uri!r} has no scheme. Write one of {forms}, or file.py:Class:...")
    return SOURCES.get(scheme)(location, config)


def located(folder: Path, config: DataConfig) -> EpisodeDataset:
    """The episodes of a finished data stage, whose facts are the :meth:`Source.location` of its source."""
    return open_source(config).located(folder, json.loads((folder / "facts.json").read_text()))


def importer(path: Path, config: DataConfig) -> Foreign:
    """The source for an HDF5 file or a folder of those, and for any other folder, which is taken for a TFDS one."""
    return (Hdf5 if Hdf5.reads(path) else Rlds)(str(path), config)


class Nowhere(Source):
    """No data at all: a study without any can be planned and estimated, and that is all."""

    def open(self, root: Path, progress: Progress = silent) -> EpisodeDataset:
        raise ConfigError(f"data.uri is empty; give --data {URIS}")
