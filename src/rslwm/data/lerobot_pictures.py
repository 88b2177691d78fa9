"""Pictures that lie in a LeRobot folder's tables (dtype image): an encoded file a row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from rslwm.data.lerobot_episodes import read_columns
from rslwm.data.lerobot_table import Table
from rslwm.types import DataError


class Pictures:
    """The pictures of one feature."""

    def __init__(self, table: Table, column: str, root: Path) -> None:
        self.table, self.column, self.root = table, column, root
        self._last: tuple[Path, pa.ChunkedArray] | None = None

    def read(self, rows: np.ndarray, episode: str) -> np.ndarray:
        """(T, H, W, 3) uint8 of these rows; the pictures of one file are in memory at a time, still encoded. Raises
        DataError: a picture is missing, damaged, no colour picture, or of another size than the first."""
        frames: list[np.ndarray] = []
        for path, numbers in self.table.places(rows):
            if self._last is None or self._last[0] != path:
                self._last = path, self._column(path)
            for number in numbers.tolist():
                where = f"{path}: {self.column!r} of episode {episode!r}, step {len(frames)}"
                frames.append(_decode(self._last[1][number].as_py(), self.root, where))
                if frames[-1].shape != frames[0].shape:
                    raise DataError(f"{where} is {frames[-1].shape[:2]}, the first {frames[0].shape[:2]}")
        return np.stack(frames)

    def _column(self, path: Path) -> pa.ChunkedArray:
        table = read_columns(path, self.column.__eq__)
        if not table.column_names:
            raise DataError(f"{path} has no column {self.column!r}, though meta/info.json lists that feature")
        return table[self.column]


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
