"""``sim:tabletop``, the embedded simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.config import DataConfig
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.lerobot import resume_lerobot
from rslwm.data.sources.base import SOURCES, Size, Source
from rslwm.serialisation import ConfigError, content_hash
from rslwm.types import Progress, silent

# MuJoCo is a heavy import, and a machine that only reads recorded data needn't have a renderer: hence the late imports.


@SOURCES.register("sim")
class Simulator(Source):
    """``sim:tabletop``, recorded once for every :class:`rslwm.sim.config.SimConfig`."""

    exclusive = True
    environment = "tabletop"
    version = 2

    def __init__(self, location: str, config: DataConfig) -> None:
        super().__init__(location, config)
        if location != "tabletop":
            raise ConfigError(f"data.uri: there is no simulator {location!r}; the embedded one is sim:tabletop")

    def write(self, folder: Path, progress: Progress = silent) -> EpisodeDataset:
        from rslwm.sim.record import record
        from rslwm.sim.tabletop import SPEC
        from rslwm.sim.tasks import STATE_NAMES

        sim = self.config.sim
        return resume_lerobot(
            lambda first: record(sim, first=first), self.state, folder, SPEC, sim.episodes, progress, STATE_NAMES
        )

    def content(self) -> str:
        return f"{self.place} {content_hash(self.config.sim)}"

    @property
    def recorded(self) -> DataConfig:
        return replace(super().recorded, sim=self.config.sim)

    @property
    def seconds(self) -> float:
        return 0.3 * self.config.sim.episodes

    def size(self) -> Size:
        episodes = self.config.sim.episodes
        return Size(episodes, episodes * self.config.sim.max_steps, counted=False)

    def _videos(self) -> Iterator[np.ndarray]:
        """Rendered at the size that they are asked for."""
        from rslwm.sim.record import record_episode

        sim = replace(self.config.sim, image_size=self.config.image_size)
        return (self._of_camera(record_episode(sim, i).frames) for i in count())

    def truth(self, dataset: EpisodeDataset, episode: int, step: int) -> Any:
        from rslwm.sim.record import restore

        return restore(self.config.sim, dataset.info[episode]["seed"][-1], step)

    def course(self, dataset: EpisodeDataset, episode: int) -> list[Any]:
        from rslwm.sim.record import moments

        return moments(self.config.sim, dataset.info[episode]["seed"][-1])
