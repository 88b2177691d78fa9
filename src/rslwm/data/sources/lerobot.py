"""LeRobot folders, which are opened where they lie: ``lerobot:FOLDER`` and ``hf://datasets/OWNER/NAME[@REVISION]``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from rslwm.data.dataset import EpisodeDataset
from rslwm.data.hub import HubFolder
from rslwm.data.sources.base import SOURCES, Size, Source
from rslwm.types import Progress, silent


@SOURCES.register("lerobot")
class LeRobot(Source):
    """``lerobot:FOLDER``; the folder may be on the hub, too: ``lerobot:hf://datasets/OWNER/NAME``."""

    @cached_property
    def hub(self) -> HubFolder | None:
        return HubFolder(self.place) if self.place.startswith("hf:") else None

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


@SOURCES.register("hf")
class Hub(LeRobot):
    """``hf://datasets/OWNER/NAME[@REVISION][/FOLDER]``, downloaded once into the hub's own cache."""

    @cached_property
    def hub(self) -> HubFolder:
        return HubFolder(f"hf:{self.place}")
