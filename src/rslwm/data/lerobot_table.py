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
    def _read(self) -> tuple[dict[str, np.ndarray], dict[str, str], np.ndarray]:
        """Columns, what is wrong with those that are missing here, and the number of rows in each file."""
        parts: dict[str, list[np.ndarray]] = {key: [] for key in (*self.columns, *BOOKKEEPING)}
        wrong: dict[str, str] = {}
        counts = []
        wanted = self.columns | {key: key for key in BOOKKEEPING}
        for path in self.files:
            table = read_columns(path, {*wanted.values()}.__contains__)
            counts.append(len(table))
            for key, name in wanted.items():
                if key in wrong:
                    continue
                if name not in table.column_names:
                    wrong[key] = f"{path} has no column {name!r}, though meta/info.json lists that feature"
                    continue
                kind = np.float32 if key in self.columns else np.float64 if key == "timestamp" else np.int64
                try:
                    parts[key].append(_numbers(table[name], kind))
                except (ValueError, pa.ArrowException) as error:
                    wrong[key] = f"{path}: the rows of {name!r} {error}"
        found = {}
        for key in parts.keys() - wrong.keys():
            if len(widths := {part.shape[1] for part in parts[key] if len(part)}) > 1:
                wrong[key] = f"{self.files[0].parent}: {key!r} has {sorted(widths)} values a row, by file"
                continue
            filled = [part for part in parts[key] if len(part)]
            found[key] = np.concatenate(filled or parts[key]) if parts[key] else np.empty((0, 1), np.float32)
        return found, wrong, np.array(counts, np.int64)

    def __len__(self) -> int:
        """Rows in all files."""
        return int(self._read[2].sum())

    def column(self, key: str) -> np.ndarray:
        """A vector over all rows, (N, n) float32.

        Raises:
            DataError: it is missing, or its rows differ in length.
        """
        found, wrong, _ = self._read
        if key in wrong:
            raise DataError(wrong[key])
        return found[key]

    def has(self, key: str) -> bool:
        return key in self._read[0]

    def index(self, key: str) -> np.ndarray | None:
        """An index column, (N,) int64, or the time stamps, float64; None if there is none.

        Raises:
            DataError: it is there and can't be read.
        """
        found, wrong, _ = self._read
        if key in wrong and "has no column" not in wrong[key]:
            raise DataError(wrong[key])
        return found[key][:, 0] if key in found else None

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
        ends = np.cumsum(self._read[2])
        files = np.searchsorted(ends, rows, side="right")
        cuts = np.flatnonzero(np.diff(files)) + 1
        for part in np.split(np.arange(len(rows)), cuts):
            if len(part):
                file = files[part[0]]
                yield self.files[file], rows[part] - (ends[file] - self._read[2][file])


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
