"""The built-in data sources: what SCHEME:LOCATION leads to. Another one is a function registered from its own file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rslwm.data.config import DataConfig
from rslwm.data.dataset import SOURCES, EpisodeDataset, Progress, open_folder
from rslwm.data.hdf5 import SUFFIXES, Hdf5Files, hdf5_files
from rslwm.data.hub import local_folder
from rslwm.data.lerobot import write_lerobot
from rslwm.data.rlds import RldsFolder
from rslwm.serialisation import content_hash
from rslwm.sim.config import SimConfig
from rslwm.types import ActionSpec, DataError, Episode


@SOURCES.register("lerobot")
def open_lerobot(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``lerobot:FOLDER``, opened where it lies; the folder may be on the hub, see :mod:`rslwm.data.hub`."""
    return open_folder(local_folder(location), config)


@SOURCES.register("rlds")
def import_rlds(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``rlds:FOLDER``, a TFDS folder, imported once for every state of its files."""
    return _import(RldsFolder(Path(location).expanduser(), config.features, config.action_spec), "rlds", root, progress)


@SOURCES.register("hdf5")
def import_hdf5(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``hdf5:FILE`` or a folder of them, as robomimic and LIBERO write them, imported once for every state of them."""
    return _import(Hdf5Files(Path(location).expanduser(), config.features, config.action_spec), "hdf5", root, progress)


class Foreign(Protocol):
    """Data in another form, of which an importer has found out what is what."""

    name: str

    @property
    def key(self) -> str: ...

    @property
    def spec(self) -> ActionSpec: ...

    @property
    def state_names(self) -> dict[str, list[str]]: ...

    @property
    def total(self) -> int: ...

    @property
    def notes(self) -> list[str]: ...

    def episodes(self) -> Iterator[Episode]: ...


def _import(source: Foreign, scheme: str, root: Path, progress: Progress | None) -> EpisodeDataset:
    name = re.sub(r"[^\w.-]+", "_", source.name)
    imported = root / f"{scheme}-{name}-{source.key}"
    return EpisodeDataset(imported) if imported.exists() else convert(source, imported, progress)


def open_foreign(path: Path, features: Sequence[str] = (), action_spec: str = "") -> Foreign:
    """The importer for a TFDS folder, an HDF5 file or a folder of those.

    Raises:
        DataError: it is neither, can't be read, or nothing says what its actions mean.
    """
    folder = path.is_dir() and not (path / "features.json").exists()
    hdf5 = path.suffix in SUFFIXES or (folder and any(hdf5_files(path)))
    source: Foreign = (Hdf5Files if hdf5 else RldsFolder)(path, features, action_spec)
    _ = source.spec  # asked for before everything is read
    return source


def convert(source: Foreign, root: Path, progress: Progress | None = None) -> EpisodeDataset:
    """The episodes of an RLDS or HDF5 data set as a new LeRobot folder."""
    return write_lerobot(
        source.episodes(), root, source.spec, source.total, progress, source.state_names, notes=source.notes
    )


@SOURCES.register("sim")
def record_sim(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``sim:tabletop``, recorded once for every :class:`rslwm.sim.config.SimConfig`."""
    if location != "tabletop":
        raise DataError(f"data.uri: there is no simulator {location!r}; the embedded one is sim:tabletop")
    recorded = root / f"sim-tabletop-{content_hash(config.sim)}"
    return EpisodeDataset(recorded) if recorded.exists() else record_tabletop(config.sim, recorded, progress)


def record_tabletop(config: SimConfig, root: Path, progress: Progress | None = None) -> EpisodeDataset:
    """Record the embedded simulator into a new LeRobot folder."""
    # MuJoCo is a heavy import, and a machine that only reads recorded data needn't have a renderer.
    from rslwm.sim.record import record
    from rslwm.sim.state import STATE_NAMES
    from rslwm.sim.tabletop import SPEC

    return write_lerobot(record(config), root, SPEC, config.episodes, progress, STATE_NAMES)
