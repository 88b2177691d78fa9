"""Pictures that lie in a LeRobot folder's tables (dtype image): an encoded file a row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from rslwm.data.lerobot_episodes import open_table
from rslwm.data.lerobot_table import Table
from rslwm.types import DataError


class Pictures:
    """The pictures of one feature."""

    def __init__(self, table: Table, column: str, root: Path) -> None:
        self.table, self.column, self.root = table, column, root
        self._file: tuple[Path, pq.ParquetFile, np.ndarray] | None = None
        self._group: tuple[Path, int, pa.ChunkedArray] | None = None

    def read(self, rows: np.ndarray, episode: str) -> np.ndarray:
        """(T, H, W, 3) uint8 of these rows; one row group of the file is in memory at a time.

        Raises:
            DataError: a picture is missing, damaged, no colour picture, or of another size than the first.
        """
        frames: list[np.ndarray] = []
        for path, numbers in self.table.places(rows):
            for number in numbers.tolist():
                where = f"{path}: {self.column!r} of episode {episode!r}, step {len(frames)}"
                frames.append(_decode(self._value(path, number), self.root, where))
                if frames[-1].shape != frames[0].shape:
                    raise DataError(f"{where} is {frames[-1].shape[:2]}, the first {frames[0].shape[:2]}")
        return np.stack(frames)

    def _value(self, path: Path, number: int) -> Any:
        if self._file is None or self._file[0] != path:
            file = open_table(path)
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self._file = path, file, np.cumsum(counts)
        _, file, ends = self._file
        group = int(np.searchsorted(ends, number, side="right"))
        if self._group is None or self._group[:2] != (path, group):
            self._group = path, group, self._column(file, path, group)
        return self._group[2][number - int(ends[group - 1] if group else 0)].as_py()

    def _column(self, file: pq.ParquetFile, path: Path, group: int) -> pa.ChunkedArray:
        if self.column not in file.schema_arrow.names:
            raise DataError(f"{path} has no column {self.column!r}, though meta/info.json lists that feature")
        try:
            return file.read_row_group(group, columns=[self.column])[self.column]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: {self.column!r} can't be read ({error}). Copy or record it again.") from None


def _decode(value: Any, root: Path, where: str) -> np.ndarray:
    data = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
    if not data:
        raise DataError(f"{where} is missing. Record the picture again, or remove the episode.")
    if isinstance(data, str) and not (root / data).is_file():
        raise DataError(f"{where} lies in {root / data}, which does not exist. Copy it there.")
    if not isinstance(data, str | bytes):
        raise DataError(
            f"{where} is {type(data).__name__} {str(data)[:40]}, not an encoded picture as LeRobot writes it (bytes or "
            "path). Pixels as numbers aren't supported: write them as PNG, with LeRobot's add_frame()."
        )
    try:
        picture = Image.open(root / data if isinstance(data, str) else io.BytesIO(data))
        colours = picture if picture.mode[0] in "IF" else picture.convert("RGB")
    except UnidentifiedImageError:
        begins = "" if isinstance(data, str) else f": it begins with {data[:8]!r}"
        raise DataError(f"{where} is no picture{begins}. Copy or record the file again.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} can't be decoded ({error}). Copy or record the file again.") from None
    if colours.mode != "RGB":
        raise DataError(
            f"{where} has one channel of more than 8 bits: a depth map, not colours. Choose another camera with "
            "data.camera, or flag it with is_depth_map in meta/info.json."
        )
    return np.asarray(colours)
