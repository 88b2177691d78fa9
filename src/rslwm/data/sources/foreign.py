"""Data in another format than LeRobot's, read once and kept as a LeRobot folder."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.conventions import SIDECARS, ActionsUntold, given_spec
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.hdf5_file import Demonstration
from rslwm.data.leaves import Layout, Leaf
from rslwm.data.lerobot import resume_lerobot
from rslwm.data.parts import columns, untold
from rslwm.data.sources.base import Source
from rslwm.data.tfrecord import Example
from rslwm.types import ActionSpec, DataError, Episode, Progress, silent

Recording = Demonstration | Example
"""An episode as a file of another format holds it; reading raises :class:`DataError` if it isn't as declared."""

log = logging.getLogger(__name__)


class Foreign(Source):
    """A source whose episodes are imported, once for every state of its files.

    What of ``data.features`` and ``data.action_spec`` applies is asked for before everything is read.
    """

    @property
    def folder(self) -> Path:
        """Where a file may say what the actions mean, see :data:`rslwm.data.conventions.SIDECARS`."""
        return self.path

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Which feature is what. Raises DataError: files are absent, damaged or of another format, or nothing acts."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Episodes that are read."""

    @property
    @abstractmethod
    def notes(self) -> list[str]:
        """A sentence for everything that the import leaves out or changes."""

    @abstractmethod
    def episodes(self, as_recorded: bool = False, first: int = 0) -> Iterator[Episode]:
        """Every episode once, from number ``first`` on; ``as_recorded`` keeps every dimension of the actions as it is,
        whatever it means."""

    @abstractmethod
    def _known_spec(self) -> ActionSpec:
        """The action spec where no file holds one; raises :meth:`_untold` if the data don't tell."""

    @cached_property
    def spec(self) -> ActionSpec:
        """From the file given, or one beside the data; otherwise as far as the data tell. Raises DataError: nothing is
        an action. Raises ActionsUntold: nothing tells what it means; the message holds a draft."""
        _ = self.layout
        return self._known_spec() if self._given is None else self._given

    @cached_property
    def _given(self) -> ActionSpec | None:
        return given_spec(self.folder, self.config.action_spec)

    def _untold(self, actions: np.ndarray, why: str, hz: float = 0.0) -> ActionsUntold:
        where = f"{self.path} doesn't say what its actions mean ({self._recorded_as}){why}"
        return untold(self.layout.parts, actions, where, self.folder / SIDECARS[0], hz)

    @property
    def _recorded_as(self) -> str:
        return ", ".join(map(str, self.layout.leaves))

    @cached_property
    def _columns(self) -> list[int]:
        """The dimensions of the spec among those recorded."""
        return columns(self.layout.parts, self.spec, f"{self.path}: {self._recorded_as}")

    @property
    def state_names(self) -> dict[str, list[str]]:
        """Names of the states' dimensions where they are known."""
        return self.layout.state_names

    def open(self, root: Path, progress: Progress = silent) -> EpisodeDataset:
        _ = self.spec
        return super().open(root, progress)

    def write(self, folder: Path, progress: Progress = silent) -> EpisodeDataset:
        spec, notes = self.spec, self.notes
        for sentence in notes:
            log.warning("%s: %s", self.path, sentence)
        names = self.state_names
        return resume_lerobot(
            lambda first: self.episodes(first=first), self.state, folder, spec, self.total, progress, names, notes
        )

    def _videos(self) -> Iterator[np.ndarray]:
        return (self._of_camera(episode.frames) for episode in self.episodes(as_recorded=True))

    def _recorded(self, recording: Recording) -> np.ndarray:
        """(T, A) every dimension of the action, the parts side by side."""
        parts = {leaf.key: recording.numbers(leaf) for leaf in self.layout.leaves}
        lengths = {key: len(part) for key, part in parts.items()}
        if len({*lengths.values()}) > 1:
            raise DataError(f"{recording.where}: the parts of the action differ in length: {lengths}")
        return np.concatenate([part.reshape(len(part), -1) for part in parts.values()], axis=1)

    def _episode(
        self, recording: Recording, name: str, actions: np.ndarray, instruction: str, labelled: bool, **info: Any
    ) -> Episode:
        """With all cameras and states; success is any reward, if rewards are labels."""
        states = {name: recording.numbers(leaf) for name, leaf in self.layout.states.items()}
        return Episode(
            id=name,
            frames={camera: recording.pictures(leaf) for camera, leaf in self._cameras.items()},
            actions=actions.astype(np.float32),
            instruction=instruction,
            success=bool((recording.rewards > 0).any()) if labelled else None,
            states={n: values.reshape(len(values), -1).astype(np.float32) for n, values in states.items()},
            info=info,
        )

    @property
    def _cameras(self) -> dict[str, Leaf]:
        """Those that are read."""
        return self.layout.cameras
