"""Writes LeRobot v3 folders: one episode in memory at a time, and all of the data set or nothing."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rslwm.data.dataset import CAMERA, STATE, EpisodeDataset, Progress
from rslwm.data.fingerprint import note
from rslwm.data.video import PIXEL_FORMAT, VideoWriter
from rslwm.types import ActionSpec, DataError, Episode

DATA_MB, VIDEO_MB, CHUNK_FILES = 100, 200, 1000
"""LeRobot's own limits: size at which a file is followed by another, and files in a folder."""

ROW_GROUP = 20_000
"""Rows that are gathered before they are written: a parquet row group an episode would be slow to read."""

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

_INDEX_FEATURES = ("frame_index", "episode_index", "index", "task_index")


def write_lerobot(
    episodes: Iterable[Episode],
    root: Path | str,
    spec: ActionSpec,
    total: int | None = None,
    progress: Progress | None = None,
    state_names: Mapping[str, Sequence[str]] | None = None,
) -> EpisodeDataset:
    """Write ``episodes`` as they come and open the result.

    The folder gets its name when everything is in it; if anything fails before, nothing is left behind. The action
    spec is kept in ``meta/info.json`` under ``rslwm``, ids and ``info`` as columns of ``meta/episodes``, a success
    label as ``next.success`` on the last frame beside ``next.success_labelled``.

    Raises:
        DataError: ``root`` exists; an episode differs from the first one in cameras, sizes or states, repeats an id,
            or is inconsistent in itself; there are none, or not ``total``.
    """
    root = Path(root)
    if root.exists():
        raise DataError(f"{root} exists. Delete it or write to another folder; a data set is never overwritten.")
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    writer = _Writer(partial, spec, state_names or {})
    try:
        for done, episode in enumerate(episodes, 1):
            writer.add(episode)
            if progress:
                progress(done)
        writer.close(total)
        note(partial)
        partial.rename(root)
    except BaseException:
        try:
            writer.release()
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return EpisodeDataset(root)


class _Writer:
    """The growing folder: one open parquet file, one open mp4 a camera, and what the metadata will say."""

    def __init__(self, root: Path, spec: ActionSpec, state_names: Mapping[str, Sequence[str]]) -> None:
        self.root, self.spec, self.state_names = root, spec, state_names
        self.layout: dict[str, tuple[int, ...]] = {}
        self.rows: list[dict[str, Any]] = []
        self.tasks: dict[str, int] = {}
        self.frames = 0
        self.stats: dict[str, _Moments] = {}
        self.ids: set[str] = set()
        self.table: pq.ParquetWriter | None = None
        self.pending: list[pa.Table] = []
        self.videos: dict[str, VideoWriter] = {}
        self.files: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()

    def add(self, episode: Episode) -> None:
        self._require_consistent(episode)
        number = len(self.rows)
        task = self.tasks.setdefault(episode.instruction, len(self.tasks))
        row = {
            "episode_index": number,
            "tasks": [episode.instruction],
            "length": len(episode),
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + len(episode),
            **self._add_rows(episode, number, task),
            "rslwm/id": episode.id,
            "rslwm/info": json.dumps(episode.info, default=_plain),
        }
        for camera, frames in episode.frames.items():
            row |= self._add_frames(CAMERA + camera, frames)
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self.rows.append(row)
        self.frames += len(episode)

    def _add_rows(self, episode: Episode, number: int, task: int) -> dict[str, int]:
        length, steps = len(episode), np.arange(len(episode))
        values = {"action": episode.actions} | {_key(name): state for name, state in episode.states.items()}
        labels = {
            "next.success": (steps == length - 1) & bool(episode.success),
            "next.success_labelled": np.full(length, episode.success is not None),
        }
        scalars = {
            "timestamp": (steps / self.spec.hz).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, number),
            "index": steps + self.frames,
            "task_index": np.full(length, task),
        }
        columns = {key: _vectors(value.astype(np.float32)) for key, value in values.items()}
        table = pa.table(columns | {key: pa.array(value) for key, value in (labels | scalars).items()})
        for key, value in values.items():
            self.stats.setdefault(key, _Moments()).add(value)
        place = self._place("data", DATA_MB)
        path = self.root / DATA_PATH.format(**place)
        if self.table is None or Path(self.table.where) != path:
            if self.table is not None:
                self._flush()
                self.table.close()
            path.parent.mkdir(parents=True, exist_ok=True)
            self.table = pq.ParquetWriter(path, table.schema)
        self.pending.append(table)
        self.sizes["data"] += table.nbytes
        if sum(map(len, self.pending)) >= ROW_GROUP:
            self._flush()
        return {f"data/{name}": value for name, value in place.items()}

    def _flush(self) -> None:
        if self.pending and self.table is not None:
            self.table.write_table(pa.concat_tables(self.pending))
            self.pending = []

    def _add_frames(self, key: str, frames: np.ndarray) -> dict[str, float]:
        place = self._place(key, VIDEO_MB)
        path = self.root / VIDEO_PATH.format(video_key=key, **place)
        if key not in self.videos or self.videos[key].path != path:
            if key in self.videos:
                self.videos[key].close()
            self.videos[key] = VideoWriter(path, self.spec.hz, *frames.shape[1:3])
        start, end = self.videos[key].add(frames)
        self.sizes[key] = self.videos[key].nbytes
        self.stats.setdefault(key, _Moments()).add(frames[:, ::4, ::4].reshape(-1, 3) / 255)
        times = {"from_timestamp": start, "to_timestamp": end}
        return {f"videos/{key}/{name}": value for name, value in (place | times).items()}

    def _place(self, key: str, limit_mb: int) -> dict[str, int]:
        """Chunk and file for the next episode: the current ones, or the next if that file has grown to the limit."""
        if self.sizes[key] > limit_mb * 2**20:
            self.files[key] += 1
            self.sizes[key] = 0
        return {"chunk_index": self.files[key] // CHUNK_FILES, "file_index": self.files[key] % CHUNK_FILES}

    def _require_consistent(self, episode: Episode) -> None:
        lengths = {name: len(value) for name, value in (episode.frames | episode.states).items()}
        wrong = {name: length for name, length in lengths.items() if length != len(episode)}
        if wrong or not len(episode):
            raise DataError(f"episode {episode.id!r} has {len(episode)} actions, but {wrong or 'no steps'} in length")
        if episode.id in self.ids:
            raise DataError(f"episode id {episode.id!r} comes twice; ids must be unique")
        self.ids.add(episode.id)
        flat = [name for name, value in episode.states.items() if value.ndim != 2]
        if flat:
            raise DataError(f"episode {episode.id!r}: states {flat} are not (T, n); reshape a scalar one to (T, 1)")
        layout = {"action": episode.actions.shape[1:]}
        layout |= {CAMERA + name: frames.shape[1:] for name, frames in episode.frames.items()}
        layout |= {_key(name): state.shape[1:] for name, state in episode.states.items()}
        self.layout = self.layout or {**layout, "action": (self.spec.dims,)}
        for key in layout | self.layout:
            if layout.get(key) != self.layout.get(key):
                raise DataError(
                    f"episode {episode.id!r}: {key} has shape {layout.get(key)} a step, but {self.layout.get(key)} in "
                    "the data set so far; every episode needs the same cameras, sizes and states"
                )
            if key.startswith(CAMERA) and episode.frames[key.removeprefix(CAMERA)].dtype != np.uint8:
                raise DataError(f"episode {episode.id!r}: {key} is not uint8; frames are (T, H, W, 3) uint8")

    def close(self, total: int | None) -> None:
        if not self.rows or (total is not None and len(self.rows) != total):
            raise DataError(f"{self.root}: got {len(self.rows)} episodes, expected {total or 'at least one'}")
        self.release()
        episodes = self.root / "meta/episodes/chunk-000/file-000.parquet"
        episodes.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self.rows), episodes)
        _write_tasks(self.tasks, self.root / "meta/tasks.parquet")
        stats = {key: moments.to_dict(image=key.startswith(CAMERA)) for key, moments in self.stats.items()}
        (self.root / "meta/stats.json").write_text(json.dumps(stats, indent=1))
        (self.root / "meta/info.json").write_text(json.dumps(self._info(), indent=1))

    def release(self) -> None:
        """Write out and close whatever is open."""
        if self.table is not None:
            self._flush()
            self.table.close()
        while self.videos:
            self.videos.popitem()[1].close()

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": "v3.0",
            "robot_type": None,
            "total_episodes": len(self.rows),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": int(self.spec.hz) if self.spec.hz == int(self.spec.hz) else self.spec.hz,
            "splits": {"train": f"0:{len(self.rows)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": self._features(),
            "rslwm": {"action_spec": self.spec.to_dict()},
        }

    def _features(self) -> dict[str, Any]:
        names = {"action": [*self.spec.names]} | {_key(name): [*dims] for name, dims in self.state_names.items()}
        features: dict[str, Any] = {}
        for key, shape in self.layout.items():
            if key.startswith(CAMERA):
                features[key] = _video_feature(shape, self.spec.hz)
            else:
                features[key] = {"dtype": "float32", "shape": [*shape], "names": names.get(key)}
        for key in ("next.success", "next.success_labelled"):
            features[key] = {"dtype": "bool", "shape": [1], "names": None}
        features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
        return features | {key: {"dtype": "int64", "shape": [1], "names": None} for key in _INDEX_FEATURES}


class _Moments:
    """Count, extremes, mean and deviation of rows that come in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self.low, self.high = np.array(np.inf), np.array(-np.inf)
        self.sum, self.squares = np.zeros(()), np.zeros(())

    def add(self, values: np.ndarray) -> None:
        """(n, d) more rows."""
        rows = values.astype(np.float64)
        self.low, self.high = np.minimum(self.low, rows.min(axis=0)), np.maximum(self.high, rows.max(axis=0))
        self.sum, self.squares = self.sum + rows.sum(axis=0), self.squares + (rows**2).sum(axis=0)
        self.count += len(rows)

    def to_dict(self, image: bool) -> dict[str, Any]:
        """As LeRobot's ``stats.json`` has it; an image's channels stand in (3, 1, 1), in [0, 1]."""
        mean = self.sum / self.count
        with np.errstate(invalid="ignore"):  # infinite actions are for the data check to report
            std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        moments = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {k: (v[:, None, None] if image else v).tolist() for k, v in moments.items()} | {"count": [self.count]}


def _key(state: str) -> str:
    return STATE if state == "state" else f"{STATE}.{state}"


def _vectors(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"Episode.info holds {value!r}, which JSON can't")


def _video_feature(shape: tuple[int, ...], fps: float) -> dict[str, Any]:
    height, width, channels = shape
    details = {"height": height, "width": width, "channels": channels, "fps": fps, "codec": "h264"}
    details |= {"pix_fmt": PIXEL_FORMAT, "is_depth_map": False}
    return {
        "dtype": "video",
        "shape": [*shape],
        "names": ["height", "width", "channels"],
        "info": {f"video.{name}": value for name, value in details.items()} | {"has_audio": False},
    }


def _write_tasks(tasks: dict[str, int], path: Path) -> None:
    """LeRobot reads this table with pandas and expects the task as its index."""
    column = {"field_name": "task", "name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    index = {**column, "field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": [index, column], "pandas_version": "2.2.0"}
    schema = pa.schema({"task_index": pa.int64(), "task": pa.string()}, metadata={"pandas": json.dumps(pandas)})
    pq.write_table(pa.table({"task_index": [*tasks.values()], "task": [*tasks]}, schema=schema), path)
