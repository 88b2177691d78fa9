"""Writes LeRobot v3 folders: one episode in memory at a time, and all of the data set or nothing.

What is to be resumed after a kill is kept beside what is written, see :mod:`rslwm.data.kept`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.error import FFmpegError

from rslwm.data import lerobot_schema as schema
from rslwm.data.dataset import EpisodeDataset
from rslwm.data.fingerprint import note
from rslwm.data.kept import Kept, WholeVideo, plain
from rslwm.data.lerobot_info import CAMERA, LABELLED, PATHS, SUCCESS
from rslwm.data.video import VideoWriter
from rslwm.types import ActionSpec, DataError, Episode, Progress, silent

DATA_MB, VIDEO_MB, CHUNK_FILES = 100, 200, 1000
"""LeRobot's own limits: size at which a file is followed by another, and files in a folder."""

ROW_GROUP, EPISODE_GROUP = 20_000, 500
"""Rows of steps and of episodes that are gathered before they are written: a row group each would be slow to read."""

DATA_PATH, VIDEO_PATH = PATHS[3]["data_path"], PATHS[3]["video_path"]
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"


def write_lerobot(
    episodes: Iterable[Episode],
    root: Path | str,
    spec: ActionSpec,
    total: int | None = None,
    progress: Progress = silent,
    state_names: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> EpisodeDataset:
    """Write ``episodes`` as they come and open the result.

    The folder gets its name when everything is in it; if anything fails before, nothing is left behind. The action
    spec is kept in ``meta/info.json`` under ``rslwm``, ids and ``info`` as columns of ``meta/episodes``, a success
    label as ``next.success`` on the last frame beside ``next.success_labelled``. ``notes`` say what an import left out.

    Raises:
        DataError: ``root`` exists; an episode isn't like the first in cameras, sizes or states, repeats an id, or is
            inconsistent in itself; there are none, or not ``total``.
        OSError: the disk is full, or can't be written to.
    """
    return resume_lerobot(lambda first: episodes, "", root, spec, total, progress, state_names, notes)


def resume_lerobot(
    episodes: Callable[[int], Iterable[Episode]],
    key: str,
    root: Path | str,
    spec: ActionSpec,
    total: int | None = None,
    progress: Progress = silent,
    state_names: Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (),
) -> EpisodeDataset:
    """:func:`write_lerobot` of ``episodes(number)``, those from a number on, which goes on after the last one that an
    attempt made which was killed or failed. The bytes are the same.

    ``key`` says what these episodes are: another key starts over. What an attempt leaves is hidden beside the folder,
    as large as the data set and the raw frames of the videos that aren't full (200 MB) yet; bad data leave nothing.
    """
    root = Path(root)
    if root.exists():
        raise DataError(f"{root} exists. Delete it or write to another folder; a data set is never overwritten.")
    partial = root.with_name(f".{root.name}.partial")
    kept = Kept(partial, key)
    writer = _Writer(partial, spec, state_names or {}, notes, kept)
    try:
        for episode, stats in kept.episodes():
            writer.add(episode, stats)
        for done, episode in enumerate(episodes(len(writer.ids)), len(writer.ids) + 1):
            writer.add(episode)
            progress(done, max(done, total or 0), "episodes")
        writer.close(total)
        note(partial)
        kept.remove()
        partial.rename(root)
    except BaseException as error:
        writer.abandon()
        if not key or isinstance(error, DataError):
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            left = "kept. Free space and run it again; it goes on" if key else "none is kept. Free space and start anew"
            what = f"{os.strerror(error.errno)} after {len(writer.ids)} episodes; {left}"
            raise OSError(error.errno, what, str(root)) from error
        raise
    return EpisodeDataset(root)


class _Rows:
    """A parquet file that grows by ``group`` rows at a time."""

    def __init__(self, path: Path, columns: pa.Schema, group: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file, self.group, self.nbytes = pq.ParquetWriter(path, columns), group, 0
        self.pending: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        self.pending.append(table)
        self.nbytes += table.nbytes
        if sum(map(len, self.pending)) >= self.group:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.file.close()

    def _flush(self) -> None:
        if self.pending:
            self.file.write_table(pa.concat_tables(self.pending))
        self.pending = []


_File = TypeVar("_File", bound=_Rows | VideoWriter | WholeVideo)


class _Writer:
    """The growing folder: an open file for steps, for episodes and for each camera, and what the metadata will say."""

    def __init__(
        self,
        root: Path,
        spec: ActionSpec,
        state_names: Mapping[str, Sequence[str]],
        notes: Sequence[str],
        kept: Kept,
    ) -> None:
        self.root, self.spec, self.state_names, self.notes, self.kept = root, spec, state_names, notes, kept
        self.layout: dict[str, tuple[int, ...]] = {}
        self.parts: list[str] = []
        self.tasks: dict[str, int] = {}
        self.frames = 0
        self.stats: dict[str, schema.Statistics] = {}
        self.ids: set[str] = set()
        self.tables: dict[str, _Rows] = {}
        self.videos: dict[str, VideoWriter | WholeVideo] = {}
        self.files: Counter[str] = Counter()

    def add(self, episode: Episode, pixels: dict[str, schema.Statistics] | None = None) -> None:
        """Append an episode; one with statistics of its ``pixels`` is kept already."""
        self._require_whole(episode)
        if not self.ids:
            self.parts = schema.proprioceptive([*episode.states])
        vectors = self._vectors(episode)
        self._require_alike(episode, vectors)
        number = len(self.ids)
        if pixels is None:
            pixels = {camera: schema.describe_pixels(frames) for camera, frames in episode.frames.items()}
            self.kept.add(number, episode, pixels)
        self.ids.add(episode.id)
        row = {
            "episode_index": number,
            "tasks": [episode.instruction],
            "length": len(episode),
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + len(episode),
        }
        stats: dict[str, schema.Statistics] = {}
        for camera, frames in episode.frames.items():
            row |= self._add_frames(camera, frames, number)
            stats[_camera_key(camera)] = pixels[camera]
        columns = vectors | self._scalars(episode, number)
        row |= self._add_rows(columns)
        stats |= {key: schema.describe(values) for key, values in columns.items()}
        for key, found in stats.items():
            self.stats[key] = schema.combine(self.stats[key], found) if key in self.stats else found
            row |= {f"stats/{key}/{name}": value.tolist() for name, value in found.items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        row |= {"rslwm/id": episode.id, "rslwm/info": json.dumps(episode.info, default=plain)}
        table = pa.Table.from_pylist([row])
        if "episodes" not in self.tables:
            self.tables["episodes"] = _Rows(self.root / EPISODES_PATH, table.schema, EPISODE_GROUP)
        self.tables["episodes"].add(table)
        self.frames += len(episode)

    def _vectors(self, episode: Episode) -> dict[str, np.ndarray]:
        """Action and states by their feature, (T, n) float32; together with the plain state, where there is one."""
        states = dict(episode.states)
        if self.parts and {*self.parts} <= states.keys():
            states["state"] = np.concatenate([states[part] for part in self.parts], axis=1)
        vectors = {"action": episode.actions} | {schema.state_key(name): state for name, state in states.items()}
        return {key: value.astype(np.float32) for key, value in vectors.items()}

    def _scalars(self, episode: Episode, number: int) -> dict[str, np.ndarray]:
        """The columns of one value a step, (T, 1)."""
        length, steps = len(episode), np.arange(len(episode))
        task = self.tasks.setdefault(episode.instruction, len(self.tasks))
        scalars = {
            SUCCESS: (steps == length - 1) & bool(episode.success),
            LABELLED: np.full(length, episode.success is not None),
            "timestamp": (steps / self.spec.hz).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, number),
            "index": steps + self.frames,
            "task_index": np.full(length, task),
        }
        return {key: value[:, None] for key, value in scalars.items()}

    def _add_rows(self, columns: dict[str, np.ndarray]) -> dict[str, int]:
        table = pa.table({key: schema.column(values) for key, values in columns.items()})
        make = partial(_Rows, columns=table.schema, group=ROW_GROUP)
        file, place = self._file(self.tables, "data", DATA_PATH, DATA_MB, make)
        file.add(table)
        return {f"data/{name}": value for name, value in place.items()}

    def _add_frames(self, camera: str, frames: np.ndarray, number: int) -> dict[str, float]:
        key = _camera_key(camera)

        def make(path: Path) -> VideoWriter | WholeVideo:
            if (total := self.kept.whole.get(self._name(path))) is not None:
                return WholeVideo(total, self.spec.hz)
            return VideoWriter(path, self.spec.hz, frames.shape[1], frames.shape[2])

        def full(path: Path, video: VideoWriter | WholeVideo) -> None:
            self.kept.close(self._name(path), video.frames, camera, number)

        file, place = self._file(self.videos, key, VIDEO_PATH, VIDEO_MB, make, full)
        start, end = file.add(frames)
        times = {"from_timestamp": start, "to_timestamp": end}
        return {f"videos/{key}/{name}": value for name, value in (place | times).items()}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _file(
        self,
        opened: dict[str, _File],
        key: str,
        template: str,
        limit_mb: int,
        make: Callable[[Path], _File],
        closed: Callable[[Path, _File], None] = lambda path, file: None,
    ) -> tuple[_File, dict[str, int]]:
        """The file for the next episode, with its chunk and number: the open one, or another if that is full."""
        full = key in opened and opened[key].nbytes > limit_mb * 2**20
        if full:
            opened[key].close()
            closed(self._place(template, key)[0], opened[key])
            self.files[key] += 1
        path, place = self._place(template, key)
        if full or key not in opened:
            opened[key] = make(path)
        return opened[key], place

    def _place(self, template: str, key: str) -> tuple[Path, dict[str, int]]:
        place = {"chunk_index": self.files[key] // CHUNK_FILES, "file_index": self.files[key] % CHUNK_FILES}
        return self.root / template.format(video_key=key, **place), place

    @property
    def _open(self) -> list[_Rows | VideoWriter | WholeVideo]:
        return [*self.tables.values(), *self.videos.values()]

    def _require_whole(self, episode: Episode) -> None:
        lengths = {name: len(value) for name, value in (episode.frames | episode.states).items()}
        wrong = {name: length for name, length in lengths.items() if length != len(episode)}
        if wrong or not len(episode):
            raise DataError(f"episode {episode.id!r} has {len(episode)} actions, but {wrong or 'no steps'} in length")
        if episode.id in self.ids:
            raise DataError(f"episode id {episode.id!r} comes twice; ids must be unique")
        if flat := [name for name, value in episode.states.items() if value.ndim != 2]:
            raise DataError(f"episode {episode.id!r}: states {flat} are not (T, n); reshape a scalar one to (T, 1)")
        for camera, frames in episode.frames.items():
            if frames.dtype != np.uint8:
                raise DataError(f"episode {episode.id!r}: {camera} is not uint8; frames are (T, H, W, 3) uint8")

    def _require_alike(self, episode: Episode, vectors: dict[str, np.ndarray]) -> None:
        layout = {key: values.shape[1:] for key, values in vectors.items()}
        layout |= {_camera_key(name): frames.shape[1:] for name, frames in episode.frames.items()}
        if len(layout) < 1 + len(episode.states) + len(episode.frames):
            names = ", ".join([*episode.states, *episode.frames])
            raise DataError(f"episode {episode.id!r}: of {names}, two have the same name once '/' is written as '.'")
        self.layout = self.layout or {**layout, "action": (self.spec.dims,)}
        for key in layout | self.layout:
            if layout.get(key) != self.layout.get(key):
                what = f"{key} has shape {layout.get(key)} a step, but {self.layout.get(key)} in the data set so far"
                raise DataError(
                    f"episode {episode.id!r}: {what}; every episode needs the same cameras, sizes and states"
                )

    def close(self, total: int | None) -> None:
        if not self.ids or (total is not None and len(self.ids) != total):
            raise DataError(f"{self.root}: got {len(self.ids)} episodes, expected {total or 'at least one'}")
        for file in self._open:
            file.close()
        schema.write_tasks(self.tasks, self.root / "meta/tasks.parquet")
        stats = {key: {n: v.tolist() for n, v in found.items()} for key, found in self.stats.items()}
        (self.root / "meta/stats.json").write_text(json.dumps(stats, indent=1))
        (self.root / "meta/info.json").write_text(json.dumps(self._info(), indent=1))

    def abandon(self) -> None:
        """Close whatever is open without caring for its content: the folder is deleted next."""
        for table in self.tables.values():
            table.pending = []
        for file in self._open:
            with suppress(OSError, FFmpegError):
                file.close()

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": "v3.0",
            "robot_type": None,
            "total_episodes": len(self.ids),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": schema.whole(self.spec.hz),
            "splits": {"train": f"0:{len(self.ids)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": schema.declare(self.layout, self.spec, self.state_names, self.parts),
            "rslwm": {"action_spec": self.spec.to_dict()} | ({"left_out": [*self.notes]} if self.notes else {}),
        }


def _camera_key(camera: str) -> str:
    return CAMERA + camera.replace("/", ".")
