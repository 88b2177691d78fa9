"""Pictures that lie in a LeRobot folder's tables (dtype image): an encoded file a row."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from rslwm.data.lerobot_episodes import open_table
from rslwm.data.lerobot_table import Table
from rslwm.types import DataError


def read_pictures(table: Table, column: str, rows: np.ndarray, root: Path, episode: str) -> np.ndarray:
    """(T, H, W, 3) uint8 of these rows; one row group is in memory at a time.

    Raises:
        DataError: a picture is missing, damaged, no colour picture, or of another size than the first.
    """
    frames: list[np.ndarray] = []
    for path, numbers in table.places(rows):
        for value in _values(path, column, numbers):
            where = f"{path}: {column!r} of episode {episode!r}, step {len(frames)}"
            frames.append(_decode(value, root, where))
            if frames[-1].shape != frames[0].shape:
                raise DataError(f"{where} is {frames[-1].shape[:2]}, the first {frames[0].shape[:2]}")
    if not frames:
        raise DataError(f"{root}: no row holds a picture of episode {episode!r}")
    return np.stack(frames)


def _values(path: Path, column: str, numbers: np.ndarray) -> Iterator[Any]:
    groups = _groups(path)
    for number in numbers:
        group = int(np.searchsorted(groups, number, side="right"))
        yield _group(path, column, group)[int(number) - int(groups[group - 1] if group else 0)].as_py()


@lru_cache(maxsize=8)
def _groups(path: Path) -> np.ndarray:
    """Where each row group ends."""
    metadata = open_table(path).metadata
    return np.cumsum([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])


@lru_cache(maxsize=2)
def _group(path: Path, column: str, group: int) -> pa.ChunkedArray:
    try:
        table = open_table(path).read_row_group(group, columns=[column])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: {column!r} can't be read ({error}). Copy or record it again.") from None
    if column not in table.column_names:
        raise DataError(f"{path} has no column {column!r}, though meta/info.json lists that feature")
    return table[column]


def _decode(value: Any, root: Path, where: str) -> np.ndarray:
    data = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
    if not data:
        raise DataError(f"{where} is missing. Record the picture again, or remove the episode.")
    if isinstance(data, str) and not (root / data).is_file():
        raise DataError(f"{where} lies in {root / data}, which does not exist. Copy it there.")
    try:
        picture = Image.open(root / data if isinstance(data, str) else io.BytesIO(data))
        if picture.mode[0] in "IF":
            raise DataError(
                f"{where} has one channel of more than 8 bits: a depth map, not colours. Choose another camera with "
                "data.camera, or flag it with is_depth_map in meta/info.json."
            )
        return np.asarray(picture.convert("RGB"))
    except (OSError, TypeError, ValueError, SyntaxError) as error:
        raise DataError(f"{where} can't be decoded ({error}). Copy or record the file again.") from None
