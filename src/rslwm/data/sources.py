"""The built-in data sources: what SCHEME:LOCATION leads to. Another one is a function registered from its own file."""

from __future__ import annotations

from pathlib import Path

from rslwm.config import DataConfig, SimConfig
from rslwm.data.dataset import SOURCES, EpisodeDataset, Progress, open_folder
from rslwm.data.hub import local_folder
from rslwm.data.lerobot import write_lerobot
from rslwm.data.rlds import RldsFolder
from rslwm.serialisation import content_hash
from rslwm.types import DataError


@SOURCES.register("lerobot")
def open_lerobot(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``lerobot:FOLDER``, opened where it lies; the folder may be on the hub, see :mod:`rslwm.data.hub`."""
    return open_folder(local_folder(location), config)


@SOURCES.register("rlds")
def import_rlds(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``rlds:FOLDER``, a TFDS folder, imported once for every state of its files."""
    folder = RldsFolder(Path(location).expanduser())
    imported = root / f"rlds-{folder.name}-{folder.key}"
    return EpisodeDataset(imported) if imported.exists() else convert_rlds(folder, imported, progress)


def convert_rlds(folder: RldsFolder, root: Path, progress: Progress | None = None) -> EpisodeDataset:
    """The episodes of a TFDS folder as a new LeRobot folder."""
    total = len(folder.report.episodes)
    return write_lerobot(folder.episodes(), root, folder.spec, total, progress, folder.state_names)


@SOURCES.register("sim")
def record_sim(location: str, config: DataConfig, root: Path, progress: Progress | None) -> EpisodeDataset:
    """``sim:tabletop``, recorded once for every :class:`rslwm.config.SimConfig`."""
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
