"""The rows of a LeRobot folder, found by what their index columns say, not by where they stand, and their pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from rslwm.data.lerobot_episodes import Listed, read_columns
from rslwm.data.lerobot_info import BOOKKEEPING
from rslwm.files import within
from rslwm.types import DataError

_LISTS = (pa.ListType, pa.FixedSizeListType, pa.LargeListType)


@dataclass
class Table:
    """All data files, in the order of their episodes, as one table."""

    files: Sequence[Path]
    columns: Mapping[str, str]
    """The vectors to read, our names to those in the files."""
    episodes: Sequence[Listed]

    @cached_property
    def _read(self) -> tuple[dict[str, np.ndarray | DataError], np.ndarray]:
        """Every column or what is wrong with it, and the number of rows in each file."""
        wanted = {**self.columns, **{key: key for key in BOOKKEEPING}}
        tables = {path: read_columns(path, {*wanted.values()}.__contains__) for path in self.files}
        found: dict[str, np.ndarray | DataError] = {}
        for key, name in wanted.items():
            kind = np.float32 if key in self.columns else np.float64 if key == "timestamp" else np.int64
            try:
                found[key] = _joined(tables, name, kind)
            except DataError as error:
                found[key] = error
        return found, np.array([len(table) for table in tables.values()], np.int64)

    def __len__(self) -> int:
        """Rows in all files."""
        return int(self._read[1].sum())

    def column(self, key: str) -> np.ndarray:
        """A vector over all rows, (N, n) float32. Raises DataError: it is missing, or its rows differ in length."""
        found = self._read[0][key]
        if isinstance(found, DataError):
            raise type(found)(*found.args)
        return found

    def index(self, key: str) -> np.ndarray | None:
        """An index column, (N,) int64, or the time stamps, float64; None without. Raises DataError: it is damaged."""
        try:
            return self.column(key)[:, 0]
        except _NoColumn:
            return None

    @cached_property
    def _by_episode(self) -> tuple[np.ndarray, np.ndarray]:
        """The order of rows by episode and frame, and the episode of each row in that order."""
        owner = self.index("episode_index")
        if owner is None:
            owner = self._owner_by_span()
        frame = self.index("frame_index")
        order = np.lexsort((np.arange(len(owner)) if frame is None else frame, owner))
        return order, owner[order]

    def _owner_by_span(self) -> np.ndarray:
        """The episode of every row where no column says so: by the rows that the metadata give to each."""
        place = self.index("index")
        place = np.arange(len(self)) if place is None else place
        owner, end = np.full(len(self), -1), 0
        for episode in self.episodes:
            start, end = episode.span or (end, end + episode.length)
            owner[(place >= start) & (place < end)] = episode.number
        return owner

    def rows(self, number: int) -> np.ndarray:
        """Where the rows of an episode are, by ascending ``frame_index``."""
        order, owner = self._by_episode
        start, end = np.searchsorted(owner, [number, number + 1])
        return order[start:end]

    def owners(self) -> list[int]:
        """The episodes that have rows, ascending."""
        return np.unique(self._by_episode[1]).tolist()

    def times(self, number: int, fps: float) -> np.ndarray:
        """Seconds since the beginning of the episode, (T,) float64; ``frame_index / fps`` where none are recorded."""
        rows = self.rows(number)
        for key, rate in (("timestamp", 1.0), ("frame_index", fps)):
            if (values := self.index(key)) is not None:
                return values[rows] / rate
        return np.arange(len(rows)) / fps

    def places(self, rows: np.ndarray) -> Iterable[tuple[Path, np.ndarray]]:
        """The files that hold these rows, and the rows' numbers inside them, in the same order."""
        ends = np.cumsum(self._read[1])
        files = np.searchsorted(ends, rows, side="right")
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(files)) + 1):
            if len(part):
                file = files[part[0]]
                yield self.files[file], rows[part] - (ends[file] - self._read[1][file])


class _NoColumn(DataError):
    pass


def _column(table: pa.Table, path: Path, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise _NoColumn(f"{path} has no column {name!r}, though meta/info.json lists that feature")
    return table[name]


def _joined(tables: Mapping[Path, pa.Table], name: str, kind: type) -> np.ndarray:
    """A column over all files, (N, n)."""
    parts = []
    for path, table in tables.items():
        column = _column(table, path, name)
        try:
            parts.append(_numbers(column, kind))
        except (ValueError, pa.ArrowException) as error:
            raise DataError(f"{path}: the rows of {name!r} {error}") from None
    filled = [part for part in parts if len(part)] or [*parts, np.empty((0, 1), kind)][:1]
    if len(widths := {part.shape[1] for part in filled}) > 1:
        raise DataError(f"{path.parent}: {name!r} has {sorted(widths)} values a row, by file")
    return np.concatenate(filled)


def _numbers(column: pa.ChunkedArray, kind: type) -> np.ndarray:
    """(N, n); raises ValueError where rows have gaps or differ in length."""
    values, rows = column.combine_chunks(), len(column)
    while isinstance(values.type, _LISTS):
        if values.null_count:
            raise ValueError("have gaps; expected as many values in each")
        values = values.flatten()
    if rows and not len(values):
        raise ValueError("are empty")
    if values.null_count or len(values) % max(rows, 1):
        raise ValueError("have gaps or differ in length; expected as many values in each")
    numbers = values.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiub":
        raise ValueError(f"hold {values.type}, not numbers")
    whole = numbers.dtype.kind != "f" or (np.isfinite(numbers) & (np.trunc(numbers) == numbers)).all()
    if kind is np.int64 and not whole:
        raise ValueError("hold NaN or fractions; expected whole numbers")
    return numbers.astype(kind).reshape(rows, -1) if rows else np.empty((0, 1), kind)


class Pictures:
    """Those that lie in the tables themselves (dtype image), an encoded file a row, of one feature."""

    def __init__(self, table: Table, column: str, root: Path) -> None:
        self.table, self.column, self.root = table, column, root
        self._last: tuple[Path, pa.ChunkedArray] | None = None

    def read(self, rows: np.ndarray, episode: str) -> np.ndarray:
        """(T, H, W, 3) uint8 of these rows; the pictures of one file are in memory at a time, still encoded. Raises
        DataError: a picture is missing, damaged, no colour picture, or of another size than the first."""
        frames: list[np.ndarray] = []
        for path, numbers in self.table.places(rows):
            if self._last is None or self._last[0] != path:
                self._last = path, _column(read_columns(path, self.column.__eq__), path, self.column)
            for number in numbers.tolist():
                where = f"{path}: {self.column!r} of episode {episode!r}, step {len(frames)}"
                frames.append(_decode(self._last[1][number].as_py(), self.root, where))
                if frames[-1].shape != frames[0].shape:
                    raise DataError(f"{where} is {frames[-1].shape[:2]}, the first {frames[0].shape[:2]}")
        return np.stack(frames)


def _decode(value: Any, root: Path, where: str) -> np.ndarray:
    data = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
    if not data:
        raise DataError(f"{where} is missing. Record the picture again, or remove the episode.")
    if isinstance(data, str):
        try:
            data = within(root, data)
        except ValueError as error:
            raise DataError(f"{where}: {error}. Move the picture into the data set's folder.") from None
        if not data.is_file():
            raise DataError(f"{where} lies in {data}, which does not exist. Copy it there.")
    if not isinstance(data, Path | bytes):
        remedy = "Pixels as numbers aren't supported: write PNG, with LeRobot's add_frame()"
        raise DataError(f"{where} is {type(data).__name__} {str(data)[:40]}, not an encoded picture. {remedy}.")
    try:
        picture = Image.open(data if isinstance(data, Path) else io.BytesIO(data))
        colours = picture if picture.mode[0] in "IF" else picture.convert("RGB")
    except UnidentifiedImageError:
        begins = "" if isinstance(data, Path) else f": it begins with {data[:8]!r}"
        raise DataError(f"{where} is no picture{begins}. Copy or record the file again.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} can't be decoded ({error}). Copy or record the file again.") from None
    if colours.mode != "RGB":
        remedy = "Choose another with data.camera, or flag it with is_depth_map in meta/info.json"
        raise DataError(f"{where} has one channel of more than 8 bits: a depth map, not colours. {remedy}.")
    return np.asarray(colours)
