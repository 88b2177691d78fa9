"""Episodes on disk: a LeRobot folder, ours or anybody's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from rslwm.data.consistency import contradictions
from rslwm.data.conventions import derive_spec, given_spec, require_order, stored_spec
from rslwm.data.fingerprint import fingerprint
from rslwm.data.lerobot_episodes import read_episodes, read_tasks, tables_below
from rslwm.data.lerobot_info import ACTION, LABELLED, SUCCESS, dimension_names, read_info
from rslwm.data.lerobot_table import Pictures, Table
from rslwm.data.video import read_video
from rslwm.serialisation import content_hash
from rslwm.types import ActionSpec, DataError


class EpisodeDataset:
    """A LeRobot v3 or v2.x data set: tables are read once, when asked for, pictures by episode and camera. Rows are
    found by their index columns, frames by their time stamps, instructions by their ``task_index``.

    ``features`` are names that the data use instead of ours, each OURS=THEIRS; ``action_spec`` is a file that holds
    one, see :func:`rslwm.data.conventions.read_spec`, or empty. Raises DataError: no such folder, another version of
    the format, or metadata that is missing. Damage to tables and videos shows when they are read;
    :func:`rslwm.data.check.check` reads everything.
    """

    def __init__(self, root: Path | str, features: Sequence[str] = (), action_spec: str = "") -> None:
        self.root, self.action_spec = Path(root), action_spec
        self._info = read_info(self.root, features)
        self.info_file = self._info.file
        self.fps = self._info.fps
        self.features: dict[str, Any] = self._info.features
        self.cameras: list[str] = [*self._info.cameras]
        self._pictures: dict[str, Pictures] = {}
        listed = read_episodes(self._info)
        self._episodes = [episode for episode in listed if episode.length]
        self._empty = [episode for episode in listed if not episode.length]
        self.lengths = np.array([episode.length for episode in self._episodes], np.int64)
        self.ids = _unique([e.own.get("id") or f"episode-{e.number:06d}" for e in self._episodes])
        self.info: list[dict[str, Any]] = [episode.own.get("info", {}) for episode in self._episodes]
        self.state_names = {n: dimension_names(self.features[key], n) for n, key in self._info.states.items()}

    def __len__(self) -> int:
        return len(self._episodes)

    def actions(self, i: int) -> np.ndarray:
        """(T, A) float32 in units of :attr:`spec`."""
        return self._vectors(ACTION, i)

    def states(self, i: int) -> dict[str, np.ndarray]:
        """Every recorded state of episode i, (T, n) float32 each."""
        return {name: self._vectors(key, i) for name, key in self._info.states.items()}

    def frames(self, i: int, camera: str) -> np.ndarray:
        """(T, H, W, 3) uint8: of every row the picture that its time stamp leads to. Raises DataError: no such camera;
        the video is missing or damaged, or lacks frames of this episode; their size is not the declared one."""
        camera = self.camera(camera)
        key, episode, rows = self._info.cameras[camera], self._episodes[i], self._rows(i)
        if camera in episode.videos:
            video, times = episode.videos[camera], self._table.times(episode.number, self.fps)
            frames = read_video(video.path, video.start + times, self.fps, self.ids[i], video.start, video.end)
        else:
            if camera not in self._pictures:
                self._pictures[camera] = Pictures(self._table, self._info.columns[key], self.root)
            frames = self._pictures[camera].read(rows, self.ids[i])
        if frames.shape[1:3] != (size := self.image_size(camera)):
            differ = f"frames are {frames.shape[1:3]}, {self.info_file} says {size}"
            raise DataError(f"episode {self.ids[i]!r}, camera {camera!r}: {differ}. Correct the feature's shape.")
        return frames

    @cached_property
    def spec(self) -> ActionSpec:
        """What one recorded action means: by ``action_spec``, by our key in ``meta/info.json``, by a file rslwm.yaml or
        rslwm.json beside ``meta``, or derived. Raises DataError: it can't be, see
        :func:`rslwm.data.conventions.derive_spec`."""
        names = dimension_names(self.features[ACTION], ACTION)
        spec = given_spec(self.root, self.action_spec) if self.action_spec else self._own_spec
        if spec is not None:
            require_order(spec, names, self.action_spec or str(self.root))
            return spec
        return derive_spec(names, self._column(ACTION), self.fps, str(self.info_file))

    @property
    def _own_spec(self) -> ActionSpec | None:
        """What the folder itself says."""
        own = self._info.own.get("action_spec")
        return given_spec(self.root) if own is None else stored_spec(own, str(self.info_file))

    @cached_property
    def success(self) -> list[bool | None]:
        """The label of every episode; None where nobody gave one."""
        if SUCCESS not in self.features:
            return [None] * len(self)
        known = [LABELLED not in self.features or self._vectors(LABELLED, i).any() for i in range(len(self))]
        return [bool(self._vectors(SUCCESS, i).any()) if labelled else None for i, labelled in enumerate(known)]

    @cached_property
    def texts(self) -> list[list[str]]:
        """The instructions of every episode in the order in which they come, by ``task_index``; by the metadata's list
        where rows have none."""
        index, tasks = self._table.index("task_index"), read_tasks(self._info)
        if index is None or tasks is None:
            return [[*episode.tasks] for episode in self._episodes]
        numbers = (dict.fromkeys(index[self._table.rows(e.number)].tolist()) for e in self._episodes)
        return [[tasks[n] for n in several if n in tasks] for several in numbers]

    @cached_property
    def instructions(self) -> list[str]:
        """One instruction an episode, its first step's where it changes; empty where there is none."""
        return [texts[0] if texts else "" for texts in self.texts]

    @cached_property
    def left_out(self) -> list[str]:
        """A sentence for everything in the folder that isn't used."""
        found = self._info.left_out()
        if self._empty:
            found.append(f"empty episodes (no steps) left out: {', '.join(str(e.number) for e in self._empty)}")
        if strangers := [*{*tables_below(self.root / "data")} - {*self._table.files}]:
            first = min(strangers).relative_to(self.root)
            found.append(f"data files that no episode refers to left out: {len(strangers)}, the first {first}")
        if several := [name for name, texts in zip(self.ids, self.texts, strict=True) if len(texts) > 1]:
            what = f"{len(several)} of {len(self)} episodes have several instructions, the first {several[0]!r}"
            found.append(f"{what}; the one of the first step is used")
        if self.action_spec and (own := self._own_spec) is not None and own != self.spec:
            found.append(f"the data's own action spec is left out: {self.action_spec} says otherwise")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Hex digits that change with any byte of the tables and the videos, and with what features are called."""
        renamed = {ours: theirs for ours, theirs in self._info.columns.items() if ours != theirs}
        return fingerprint(self.root) + (f"-{content_hash(renamed)}" if renamed else "")

    def camera(self, wanted: str) -> str:
        """The camera called ``wanted`` or ``observation.images.wanted``; the first one if it is empty. Raises
        DataError: there is no such camera."""
        names = self._info.cameras
        wanted = next((name for name, key in names.items() if wanted in (key, self._info.columns[key])), wanted)
        if not names or (wanted and wanted not in names):
            depth = "; ".join(text for text in self._info.left_out() if text.startswith("camera"))
            has = f"it has: {', '.join(names) or 'none'}{f' ({depth})' if depth else ''}"
            raise DataError(f"{self.root} has no camera {wanted!r}; {has}")
        return wanted or self.cameras[0]

    def views(self, cameras: str) -> list[str]:
        """The cameras of a comma-separated list, in its order; the first camera if it is empty. Raises DataError: there
        is no such camera, or one comes twice."""
        names = [self.camera(name.strip()) for name in cameras.split(",")]
        if len(set(names)) < len(names):
            raise DataError(f"data.camera: {cameras!r} shows {', '.join(names)}; name every camera once")
        return names

    def image_size(self, camera: str) -> tuple[int, int]:
        """Height and width of a camera's frames as the metadata declares them."""
        return self._info.size(camera)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Place and description of everything in the metadata that disagrees with itself or with the tables."""
        names = dict(zip((episode.number for episode in self._episodes), self.ids, strict=True))
        return contradictions(self._info, [*self._episodes, *self._empty], self._table, names)

    @cached_property
    def _table(self) -> Table:
        vectors = [ACTION, *self._info.states.values(), *({SUCCESS, LABELLED} & {*self.features})]
        files = dict.fromkeys(episode.table for episode in self._episodes)
        if None in files:  # the metadata don't say where rows are
            files = dict.fromkeys(tables_below(self.root / "data"))
        if not files and self._episodes:
            raise DataError(f"{self.root / 'data'} holds no parquet file: the data set is incomplete")
        return Table([f for f in files if f], {k: self._info.columns[k] for k in vectors}, self._episodes)

    def _rows(self, i: int) -> np.ndarray:
        episode = self._episodes[i]
        rows = self._table.rows(episode.number)
        if len(rows) != episode.length:
            raise DataError(
                f"{self.root}/data: {len(rows)} rows have episode_index {episode.number} ({self.ids[i]!r}), whose "
                f"length is {episode.length} in the metadata. Write the data set again, or correct its metadata."
            )
        return rows

    def _vectors(self, key: str, i: int) -> np.ndarray:
        return self._column(key)[self._rows(i)]

    def _column(self, key: str) -> np.ndarray:
        values, shape = self._table.column(key), self.features[key]["shape"]
        if len(values) and values.shape[1] != np.prod(shape):
            what = f"{self._info.columns[key]!r} has shape {tuple(shape)}, its rows hold {values.shape[1]} values"
            raise DataError(f"{self.info_file}: {what}. Correct whichever is wrong.")
        return values


def _unique(ids: list[str]) -> list[str]:
    """A set that was merged with another may hold an id several times: they are numbered then."""
    copies: defaultdict[str, Iterator[int]] = defaultdict(count)
    return [f"{name}@{copy}" if (copy := next(copies[name])) else name for name in ids]
