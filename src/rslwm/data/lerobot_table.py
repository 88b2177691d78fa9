"""The rows of a LeRobot folder: read once, and found by what their index columns say, not by where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from rslwm.data.lerobot_episodes import Listed, read_columns
from rslwm.data.lerobot_info import BOOKKEEPING
from rslwm.types import DataError

_LISTS = (pa.ListType, pa.FixedSizeListType, pa.LargeListType)


class Table:
    """All data files as one table.

    Args:
        files: in the order of their episodes.
        columns: the vectors to read, our names to those in the files.
    """

    def __init__(self, files: Sequence[Path], columns: Mapping[str, str], episodes: Sequence[Listed]) -> None:
        self.files, self.columns, self.episodes = [*files], dict(columns), episodes

    @cached_property
    def _read(self) -> tuple[dict[str, np.ndarray | DataError], np.ndarray]:
        """Every column or what is wrong with it, and the number of rows in each file."""
        wanted = self.columns | {key: key for key in BOOKKEEPING}
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
        """An index column, (N,) int64, or the time stamps, float64; None if there is none. Raises DataError: it is
        there and can't be read."""
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

    def owners(self) -> np.ndarray:
        """The episodes that have rows, ascending."""
        return np.unique(self._by_episode[1])

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
        cuts = np.flatnonzero(np.diff(files)) + 1
        for part in np.split(np.arange(len(rows)), cuts):
            if len(part):
                file = files[part[0]]
                yield self.files[file], rows[part] - (ends[file] - self._read[1][file])


class _NoColumn(DataError):
    pass


def _joined(tables: Mapping[Path, pa.Table], name: str, kind: type) -> np.ndarray:
    """A column over all files, (N, n)."""
    parts = []
    for path, table in tables.items():
        if name not in table.column_names:
            raise _NoColumn(f"{path} has no column {name!r}, though meta/info.json lists that feature")
        try:
            parts.append(_numbers(table[name], kind))
        except (ValueError, pa.ArrowException) as error:
            raise DataError(f"{path}: the rows of {name!r} {error}") from None
    filled = [part for part in parts if len(part)] or [*parts, np.empty((0, 1), kind)][:1]
    if len(widths := {part.shape[1] for part in filled}) > 1:
        raise DataError(f"{path.parent}: {name!r} has {sorted(widths)} values a row, by file")
    return np.concatenate(filled)


def _numbers(column: pa.ChunkedArray, kind: type) -> np.ndarray:
    """(N, n); raises ValueError where rows have gaps or differ in length."""
    values, rows = column.combine_chunks(), len(column)
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
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
