"""Where episodes come from: everything that a scheme of ``data.uri`` means is in one class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.fingerprint import files_key
from rslwm.data.frames import resize
from rslwm.data.lerobot_info import CAMERA
from rslwm.registry import Registry, code_of
from rslwm.serialisation import ConfigError, content_hash, determining
from rslwm.storage import is_uri, mirrored
from rslwm.types import DataError, Progress, silent

SOURCES: Registry[type[Source]] = Registry("data source", "rslwm.data_sources")
PREVIEWED = 4  # episodes that a preview shows frames of


class Size(NamedTuple):
    """How much data there is; ``counted``, or as much as there can be."""

    episodes: int
    frames: int
    counted: bool = True


class Source:
    """The data that SCHEME:LOCATION leads to. Making one reads nothing.

    A new one has :meth:`write`, or its own :meth:`open`, and whatever of the rest isn't as it is here. Raises
    ConfigError: the location can't be one.
    """

    exclusive: ClassVar[bool] = False
    """Whether :meth:`open` keeps every core busy, so that nothing else should run beside it."""
    written: ClassVar[bool] = True
    """Whether :meth:`open` writes the episodes, instead of finding them where they lie."""
    environment: ClassVar[str] = ""
    """The world that the episodes are from, a name of :data:`rslwm.envs.base.ENVIRONMENTS` or file.py:Class, if it can
    be set to the moments that :meth:`truth` gives."""

    def __init__(self, location: str, config: DataConfig) -> None:
        self.place, self.config = location, config

    version: ClassVar[int] = 1
    """Raised when the same data are read otherwise, so that what was written before isn't taken for it."""

    def open(self, root: Path, progress: Progress = silent) -> EpisodeDataset:
        """The episodes as a LeRobot folder: found where they lie, or written under ``root`` once for every state of the
        data. Raises DataError: they can't be read."""
        folder = root / "-".join([type(self).__name__.lower(), re.sub(r"[^\w.-]+", "_", self.name), self.state])
        return self.reopen(folder) if folder.exists() else self.write(folder, progress)

    def write(self, folder: Path, progress: Progress = silent) -> EpisodeDataset:
        """Record or import the episodes into a new folder, with :func:`rslwm.data.lerobot.write_lerobot`, or with
        :func:`rslwm.data.lerobot.resume_lerobot` under :attr:`state`. Raises DataError: they can't be read."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """Hash of all that determines what :meth:`write` writes."""
        return content_hash(self.version, determining(self.recorded), self.key())

    @property
    def name(self) -> str:
        """What the data are called."""
        return self.path.stem

    def reopen(self, root: Path) -> EpisodeDataset:
        """The folder that :meth:`open` has made or found before."""
        return EpisodeDataset(root)

    @property
    def path(self) -> Path:
        """The location as a place on this machine: of an address, s3://... for instance, the copy here."""
        return mirrored(self.place, anew=False) if is_uri(self.place) else Path(self.place).expanduser()

    def key(self) -> str:
        """What determines the episodes beside :meth:`recorded`: their content, that of ``data.action_spec`` and, if
        this class isn't the package's own, its code. Raises ConfigError: there is no such action spec."""
        given = self.config.action_spec
        spec = Path(given).expanduser()
        if given and not spec.is_file():
            raise ConfigError(f"data.action_spec: {spec} does not exist; name a YAML or JSON file")
        return f"{self.content()}{code_of(type(self))}" + (f" {files_key(spec)}" if given else "")

    def content(self) -> str:
        """Changes with the data, wherever they lie; what the URI says where that is no place on this machine. What an
        address holds is copied here first, where it has changed."""
        if is_uri(self.place):
            mirrored(self.place)
        return files_key(self.path) if self.place and self.path.exists() else self.place

    @property
    def recorded(self) -> DataConfig:
        """The configuration with what determines the episodes, and defaults for the rest, such as the frame skip."""
        config = self.config
        return DataConfig(uri=config.uri, features=config.features, action_spec=config.action_spec)

    @property
    def seconds(self) -> float:
        """A rough guess of how long :meth:`open` takes."""
        return 10.0

    def size(self) -> Size | None:
        """What is known before anything is read; None if nothing is. Raises DataError: it should be, and can't be."""
        return None

    def preview(self, count: int) -> Tensor:
        """``count`` frames of the configured camera, evenly over the first few episodes, (count, H, W, 3) uint8 with
        H = W = ``image_size``; all if there are fewer. Raises DataError: the data can't be read, or hold none."""
        frames = np.concatenate([*islice(self._videos(), PREVIEWED)] or [np.empty((0, 1, 1, 3), np.uint8)])
        if not len(frames):
            raise DataError(f"{self.config.uri} holds no episodes")
        chosen = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
        return torch.from_numpy(resize(chosen, self.config.image_size))

    def _videos(self) -> Iterator[np.ndarray]:
        """The configured camera's frames of each episode, (T, H, W, 3) uint8."""
        with TemporaryDirectory(prefix="rslwm-preview-") as folder:
            dataset = self.open(Path(folder))
            camera = dataset.camera(self.config.camera)
            yield from (dataset.frames(i, camera) for i in range(len(dataset)))

    def _of_camera(self, frames: dict[str, np.ndarray]) -> np.ndarray:
        """The configured camera's frames of an episode that was never written."""
        wanted = self.config.camera
        camera = wanted.removeprefix(CAMERA) or next(iter(frames), "")
        if camera not in frames:
            raise DataError(f"{self.config.uri} has no camera {wanted!r}; it has: {', '.join(frames) or 'none'}")
        return frames[camera]

    def truth(self, dataset: EpisodeDataset, episode: int, step: int) -> Any:
        """What was true at a recorded step, a :class:`rslwm.sim.tabletop.Snapshot`; None without a simulator."""
        return None

    def course(self, dataset: EpisodeDataset, episode: int) -> list[Any]:
        """The :meth:`truth` at every step of an episode."""
        return [self.truth(dataset, episode, step) for step in range(int(dataset.lengths[episode]))]

    def location(self, dataset: EpisodeDataset, folder: Path) -> dict[str, Any]:
        """Where the episodes are that :meth:`open` has found, or made in ``folder``: what :meth:`located` needs."""
        root = dataset.root.absolute()
        place = dataset.root.relative_to(folder) if dataset.root.is_relative_to(folder) else root
        return {"root": str(place), "in_place": root == self.path.absolute()}

    def located(self, folder: Path, location: dict[str, Any]) -> EpisodeDataset:
        """They are opened again: those that lay where the URI led where it leads now, the others below ``folder``."""
        return self.reopen(self.path if location["in_place"] else folder / location["root"])
