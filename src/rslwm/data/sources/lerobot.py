"""LeRobot folders, which are opened where they lie: ``lerobot:FOLDER`` and ``hf://datasets/OWNER/NAME[@REVISION]``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rslwm.data.dataset import EpisodeDataset
from rslwm.data.sources.base import SOURCES, Size, Source
from rslwm.hub import Place
from rslwm.types import DataError, Progress, silent


@dataclass(frozen=True)
class HubFolder:
    """``hf://datasets/OWNER/NAME[@REVISION][/FOLDER]``."""

    uri: str

    def commit(self) -> str:
        """The commit that this names now, or did when the hub was last reached; empty where nobody knows."""
        try:
            inside, folder = self._place.inside, self.local("meta/info.json")
        except DataError:
            return ""
        # A snapshot's folder is called by its commit.
        return folder.parents[len(Path(inside).parts) - 1].name if inside else folder.name

    def local(self, only: str = "") -> Path:
        """Where its files are on this machine, to which what isn't there is downloaded: all, or those that match the
        pattern ``only``, relative to the folder. Raises DataError: the address isn't one, the package huggingface_hub
        is missing, or the hub can't be reached."""
        place = self._place
        return place.local(f"data.uri: {self.uri}", "download it by other means and give --data lerobot:FOLDER", only)

    @property
    def _place(self) -> Place:
        place = Place.of(self.uri)
        if place is None or place.kind != "dataset":
            raise DataError(f"data.uri: {self.uri!r} is not hf://datasets/OWNER/NAME[@REVISION]")
        return place


@SOURCES.register("hf")
@SOURCES.register("lerobot")
class LeRobot(Source):
    """``lerobot:FOLDER``, or ``hf://datasets/OWNER/NAME[@REVISION][/FOLDER]``, also behind ``lerobot:``, which is
    downloaded once into the hub's own cache."""

    written = False

    @cached_property
    def hub(self) -> HubFolder | None:
        return next((HubFolder(uri) for uri in (self.place, self.config.uri) if uri.startswith("hf:")), None)

    @property
    def path(self) -> Path:
        """What is on the hub isn't at its address, but in the hub's own cache."""
        return Path(self.place) if self.hub else super().path

    def open(self, root: Path, progress: Progress = silent) -> EpisodeDataset:
        return self.reopen(self.hub.local() if self.hub else self.path)

    def reopen(self, root: Path) -> EpisodeDataset:
        """Its features are called, and its actions meant, as the configuration says."""
        return EpisodeDataset(root, self.config.features, self.config.action_spec)

    def content(self) -> str:
        """On the hub the commit, as far as it is known here and now."""
        return (self.hub.commit() or self.place) if self.hub else super().content()

    def size(self) -> Size | None:
        if not self.hub and not self.path.is_dir():
            return None
        lengths = self.reopen(self.hub.local("meta/*") if self.hub else self.path).lengths
        return Size(len(lengths), int(lengths.sum()))
