"""What a recording that is killed leaves to the next attempt: every episode so far, and which videos are whole.

Frames are kept raw, and only until the video that they are in is whole: an encoder can't be stopped and gone on with,
so one that is cut short begins its file anew.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.lerobot_schema import Statistics
from rslwm.files import write_whole
from rslwm.types import Episode

FOLDER = ".kept"
_KEY, _WHOLE = "key", "whole.json"
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Kept:
    """The episodes of an unfinished data set in ``root``, by their numbers. ``key`` says of what: what is there of
    another one is removed. Without a key nothing is kept."""

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key, self.folder = root, key, root / FOLDER
        if not key or not _holds(self.folder / _KEY, key):
            shutil.rmtree(root, ignore_errors=True)
        if key:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / _KEY, key)
        whole = self.folder / _WHOLE
        self.whole: dict[str, int] = json.loads(whole.read_text()) if whole.exists() else {}
        """Frames of the videos that are whole, by their paths below the root."""

    def episodes(self) -> Iterator[tuple[Episode, dict[str, Statistics]]]:
        """In order, with the statistics of each camera; frames that no video needs any more are black."""
        for number in range(len([*self.folder.glob("*.npz")])):
            try:
                yield self._read(number)
            except _UNREADABLE:  # the machine stopped before it was on the disk: recorded again, as are those after it
                return

    def _read(self, number: int) -> tuple[Episode, dict[str, Statistics]]:
        with np.load(self._path(number)) as arrays:
            about = json.loads(str(arrays["about"]))
            states = {name: arrays[f"state/{name}"] for name in about["states"]}
            stats = {c: {n: arrays[f"stats/{c}/{n}"] for n in names} for c, names in about["stats"].items()}
            actions = arrays["actions"]
        frames = {camera: self._frames(number, camera, shape) for camera, shape in about["frames"].items()}
        told = {name: about[name] for name in ("id", "instruction", "success", "info")}
        return Episode(frames=frames, actions=actions, states=states, **told), stats

    def _frames(self, number: int, camera: str, shape: list[int]) -> np.ndarray:
        path = self._path(number, camera)
        return np.load(path, mmap_mode="r") if path.exists() else np.broadcast_to(np.uint8(0), shape)

    def add(self, number: int, episode: Episode, stats: dict[str, Statistics]) -> None:
        """Keep an episode; a kill keeps all of it or nothing."""
        if not self.key:
            return
        about = {name: getattr(episode, name) for name in ("id", "instruction", "success", "info")}
        about |= {"states": [*episode.states], "stats": {camera: [*found] for camera, found in stats.items()}}
        about["frames"] = {camera: frames.shape for camera, frames in episode.frames.items()}
        for camera, frames in episode.frames.items():
            np.save(self._path(number, camera), frames)
        arrays = {"actions": episode.actions, "about": np.array(json.dumps(about, default=plain))}
        arrays |= {f"state/{name}": values for name, values in episode.states.items()}
        arrays |= {f"stats/{c}/{name}": value for c, found in stats.items() for name, value in found.items()}
        fresh = self.folder / "fresh"
        with fresh.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # of mypy's, for one of its options
        fresh.replace(self._path(number))

    def close(self, video: str, frames: int, camera: str, before: int) -> None:
        """A video is whole: its frames, which are those of episodes before a number, are needed no more."""
        if self.key and video not in self.whole:
            self.whole[video] = frames
            write_whole(self.folder / _WHOLE, json.dumps(self.whole))
            for number in range(before):
                self._path(number, camera).unlink(missing_ok=True)

    def remove(self) -> None:
        """Once the data set holds everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int, camera: str = "") -> Path:
        name = f"{number:08d}"
        return self.folder / (f"{name}-{camera.replace('/', '.')}.npy" if camera else f"{name}.npz")


class WholeVideo:
    """In the place of a :class:`rslwm.data.video.VideoWriter` whose file is whole: it counts."""

    def __init__(self, total: int, fps: float) -> None:
        self.total, self.fps = total, Fraction(fps).limit_denominator(1000)
        self.frames = 0

    @property
    def nbytes(self) -> float:
        """Of a file that is followed by another once all its frames have come."""
        return float("inf") if self.frames >= self.total else 0.0

    def add(self, frames: np.ndarray) -> tuple[float, float]:
        start, self.frames = self.frames, self.frames + len(frames)
        return float(start / self.fps), float(self.frames / self.fps)

    def close(self) -> None:
        pass


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def plain(value: Any) -> Any:
    """JSON's, of a number or an array of NumPy; TypeError for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"Episode.info holds {value!r}, which JSON can't")
