"""Episodes on disk: a LeRobot v3 folder, ours or anybody's, and the URIs that lead to one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rslwm.config import DataConfig
from rslwm.data.conventions import derive_spec, stored_spec
from rslwm.data.fingerprint import fingerprint
from rslwm.data.video import read_video
from rslwm.registry import Registry
from rslwm.types import ActionSpec, DataError, Episode

_EPISODE_COLUMNS = ("episode_index", "length", "dataset_from_index", "dataset_to_index")

CAMERA, STATE = "observation.images.", "observation.state"

Progress = Callable[[int], None]
"""Called with the number of episodes done so far."""


class EpisodeDataset:
    """A LeRobot v3 data set: tables are read when asked for, video one episode of one camera at a time.

    Raises:
        DataError: no such folder, another version of the format, or metadata that is missing. Damage to tables and
            videos shows when they are read; :func:`rslwm.data.check.check` reads everything.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.info_file = self.root / "meta/info.json"
        self._info = _read_info(self.info_file)
        self.fps = float(self._info["fps"])
        self.features: dict[str, Any] = self._info["features"]
        self._cameras = {k.removeprefix(CAMERA): k for k, f in self.features.items() if f["dtype"] == "video"}
        self._states = {_state_name(k): k for k, f in self.features.items() if _is_state(k, f)}
        self.cameras: list[str] = [*self._cameras]
        self._episodes = self._read_episodes()
        self.lengths = np.array([row["length"] for row in self._episodes], np.int64)
        self.ids: list[str] = [r.get("rslwm/id") or f"episode-{r['episode_index']:06d}" for r in self._episodes]
        self.instructions: list[str] = [next(iter(row.get("tasks") or [""])) for row in self._episodes]
        self.info: list[dict[str, Any]] = [json.loads(row.get("rslwm/info") or "{}") for row in self._episodes]
        self.state_names = {name: _names(self.features[key], name) for name, key in self._states.items()}
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, i: int) -> Episode:
        """Episode i whole, with the frames of every camera."""
        frames = {camera: self.frames(i, camera) for camera in self.cameras}
        return Episode(
            self.ids[i], frames, self.actions(i), self.instructions[i], self.success[i], self.states(i), self.info[i]
        )

    def actions(self, i: int) -> np.ndarray:
        """(T, A) float32 in units of :attr:`spec`."""
        return self._slice("action", i)

    def states(self, i: int) -> dict[str, np.ndarray]:
        """Every recorded state of episode i, (T, n) float32 each."""
        return {name: self._slice(key, i) for name, key in self._states.items()}

    def frames(self, i: int, camera: str) -> np.ndarray:
        """(T, H, W, 3) uint8.

        Raises:
            DataError: no such camera; the video is missing or damaged, or lacks frames of this episode.
        """
        key, row = self._cameras[self.camera(camera)], self._episodes[i]
        place = {part: row[f"videos/{key}/{part}"] for part in ("chunk_index", "file_index")}
        path = self.root / self._info["video_path"].format(video_key=key, **place)
        return read_video(path, row[f"videos/{key}/from_timestamp"], int(self.lengths[i]), self.fps, self.ids[i])

    @cached_property
    def spec(self) -> ActionSpec:
        """What one recorded action means, from our key in ``meta/info.json`` or derived.

        Raises:
            DataError: it can't be told, see :func:`rslwm.data.conventions.derive_spec`.
        """
        own = self._info.get("rslwm", {}).get("action_spec")
        if own is not None:
            return stored_spec(own, str(self.info_file))
        names = _names(self.features["action"], "action")
        return derive_spec(names, self._column("action"), self.fps, str(self.info_file))

    @cached_property
    def success(self) -> list[bool | None]:
        """The label of every episode; None where nobody gave one."""
        if "next.success" not in self.features:
            return [None] * len(self)
        ended = [bool(self._slice("next.success", i).any()) for i in range(len(self))]
        if "next.success_labelled" not in self.features:
            return [*ended]
        known = [bool(self._slice("next.success_labelled", i).any()) for i in range(len(self))]
        return [value if labelled else None for value, labelled in zip(ended, known, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any byte of the tables and the videos."""
        return fingerprint(self.root)

    def camera(self, wanted: str) -> str:
        """``wanted``, or the first camera if it is empty.

        Raises:
            DataError: there is no such camera.
        """
        if not self.cameras or (wanted and wanted not in self._cameras):
            raise DataError(f"{self.root} has no camera {wanted!r}; it has: {', '.join(self.cameras) or 'none'}")
        return wanted or self.cameras[0]

    def views(self, cameras: str) -> list[str]:
        """The cameras of a comma-separated list, in its order; the first camera if it is empty.

        Raises:
            DataError: there is no such camera, or one comes twice.
        """
        names = [self.camera(name.strip()) for name in cameras.split(",")]
        if len(set(names)) < len(names):
            raise DataError(f"data.camera: {cameras!r} shows {', '.join(names)}; name every camera once")
        return names

    def image_size(self, camera: str) -> tuple[int, int]:
        """Height and width of a camera's frames as the metadata declares them."""
        height, width = self.features[self._cameras[camera]]["shape"][:2]
        return height, width

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Place and description of everything in the metadata that disagrees with itself or with the tables."""
        recorded, listed = len(self._column("index")), int(self.lengths.sum())
        if not recorded == listed == self._info.get("total_frames", listed):
            what = (
                f"{recorded} rows in data, {listed} in meta/episodes, {self._info.get('total_frames')} in total_frames"
            )
            yield str(self.info_file), what
        end = 0
        for name, row in zip(self.ids, self._episodes, strict=True):
            span = row["dataset_to_index"] - row["dataset_from_index"]
            if row["dataset_from_index"] != end or span != row["length"]:
                what = f"rows {row['dataset_from_index']} to {row['dataset_to_index']} for a length of {row['length']}"
                yield f"episode {name!r}", f"{what}; expected them from {end} on"
            end = row["dataset_to_index"]
            for camera, key in self._cameras.items():
                times = [row[f"videos/{key}/{edge}_timestamp"] for edge in ("from", "to")]
                if round((times[1] - times[0]) * self.fps) != row["length"]:
                    what = f"{times[0]:.3f} to {times[1]:.3f} s of video at {self.fps:g} Hz for {row['length']} steps"
                    yield f"episode {name!r}, camera {camera!r}", what

    def _slice(self, key: str, i: int) -> np.ndarray:
        row, column = self._episodes[i], self._column(key)
        values = column[row["dataset_from_index"] : row["dataset_to_index"]]
        if len(values) != row["length"]:
            raise DataError(
                f"{self.root}/data: {len(values)} rows of {key!r} for episode {self.ids[i]!r}, whose length is "
                f"{row['length']} in meta/episodes. Write the data set again, or correct its metadata."
            )
        return values

    def _column(self, key: str) -> np.ndarray:
        """A feature over all frames of all episodes, (N, n) float32."""
        if key not in self._columns:
            parts = [_floats(path, key) for path in self._files("data")]
            if len({part.shape[1] for part in parts}) != 1:
                raise DataError(f"{self.root}/data: {key!r} has {[p.shape[1] for p in parts]} values a row, by file")
            self._columns[key] = np.concatenate(parts)
        return self._columns[key]

    def _files(self, folder: str) -> list[Path]:
        files = sorted((self.root / folder).glob("chunk-*/file-*.parquet"))
        if not files:
            raise DataError(f"{self.root / folder} holds no chunk-*/file-*.parquet: the data set is incomplete")
        return files

    def _read_episodes(self) -> list[dict[str, Any]]:
        wanted = {
            "episode_index",
            "length",
            "tasks",
            "dataset_from_index",
            "dataset_to_index",
            "rslwm/id",
            "rslwm/info",
        }
        rows: list[dict[str, Any]] = []
        for path in self._files("meta/episodes"):
            names = [n for n in _schema(path).names if n in wanted or n.startswith("videos/")]
            places = ("file_index", "chunk_index", "from_timestamp", "to_timestamp")
            needed = {*_EPISODE_COLUMNS} | {f"videos/{key}/{p}" for key in self._cameras.values() for p in places}
            if lacking := needed - set(names):
                raise DataError(f"{path} has no column {min(lacking)!r}, which LeRobot v3 requires")
            rows += pq.read_table(path, columns=names).to_pylist()
        if len(rows) != self._info["total_episodes"]:
            raise DataError(
                f"{self.root}/meta/episodes lists {len(rows)} episodes, but total_episodes in {self.info_file} is "
                f"{self._info['total_episodes']}. Part of the data set is missing; copy it again."
            )
        return sorted(rows, key=lambda row: row["episode_index"])


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path} does not exist: {path.parents[1]} is not a LeRobot data set")
    try:
        info: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    version = str(info.get("codebase_version"))
    if not version.startswith("v3"):
        raise DataError(f"{path}: codebase_version is {version}, not v3.x. Convert the set with LeRobot's own script.")
    for name in ("fps", "features", "total_episodes", "video_path"):
        if name not in info:
            raise DataError(f"{path} has no field {name!r}, which LeRobot v3 requires")
    if "action" not in info["features"]:
        raise DataError(f"{path}: no feature is called 'action'; there are {', '.join(info['features'])}")
    return info


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} can't be read as parquet ({error}). Copy or record it again.") from None


def _floats(path: Path, key: str) -> np.ndarray:
    if key not in _schema(path).names:
        raise DataError(f"{path} has no column {key!r}, though meta/info.json lists that feature")
    try:
        column = pq.read_table(path, columns=[key])[key].combine_chunks()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: column {key!r} can't be read ({error}). Copy or record the file again.") from None
    rows = len(column)
    while isinstance(column.type, pa.ListType | pa.FixedSizeListType | pa.LargeListType):
        column = column.flatten()
    if column.null_count or len(column) % max(rows, 1):
        raise DataError(f"{path}: the rows of {key!r} have gaps or differ in length; expected as many values in each")
    return column.to_numpy(zero_copy_only=False).astype(np.float32).reshape(rows, -1)


def _state_name(key: str) -> str:
    """``observation.state.joints`` is ``joints``, plain ``observation.state`` is ``state``."""
    return key.removeprefix(f"{STATE}.").removeprefix("observation.")


def _is_state(key: str, feature: dict[str, Any]) -> bool:
    return key.startswith("observation.") and feature["dtype"].startswith(("float", "int"))


def _names(feature: dict[str, Any], name: str) -> list[str]:
    """Names of a feature's dimensions; LeRobot allows a list, a mapping of lists, or none."""
    names = feature.get("names")
    if isinstance(names, dict):
        names = [n for group in names.values() for n in (group if isinstance(group, list) else [group])]
    count = int(np.prod(feature["shape"]))
    if names and len(names) == count and all(isinstance(n, str) for n in names):
        return [*names]
    return [f"{name}_{i}" for i in range(count)]


def _load_sources() -> None:
    import_module("rslwm.data.sources")


Source = Callable[[str, DataConfig, Path, Progress | None], EpisodeDataset]
SOURCES: Registry[Source] = Registry("data source", "rslwm.data_sources", _load_sources)


def build_dataset(config: DataConfig, root: Path, progress: Progress | None = None) -> EpisodeDataset:
    """The data set of ``config.uri``, SCHEME:LOCATION.

    What has to be recorded or imported goes into a folder under ``root`` that is named after its content, and is found
    there the next time; what is a LeRobot folder already is opened where it lies.

    Raises:
        DataError: the URI has no scheme, or its data can't be read.
        UnknownName: no data source of this scheme.
    """
    scheme, colon, location = config.uri.partition(":")
    if not colon:
        raise DataError(
            f"data.uri: {config.uri!r} has no scheme. Write one of {', '.join(f'{s}:...' for s in SOURCES)}"
        )
    return SOURCES.get(scheme)(location, config, root, progress)


def open_dataset(uri: str, cache: Path, progress: Progress | None = None) -> EpisodeDataset:
    """:func:`build_dataset` with the defaults of everything but the URI."""
    return build_dataset(DataConfig(uri=uri), cache, progress)
