"""Parquet files of anybody's: whatever is wrong with one is an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rslwm.types import DataError

REMEDY = "Copy or record it again."
ARROW_FAILS = (pa.ArrowException, OSError, ValueError, OverflowError, TypeError, LookupError)
"""What pyarrow raises for bytes that it can't make sense of; a column's name or its text may not be UTF-8, either."""


def read_columns(
    path: Path, wanted: Callable[[str], bool] = lambda name: True, remedy: str = REMEDY, unfinished: str = REMEDY
) -> pa.Table:
    """Those columns of a parquet file that are wanted. Raises DataError: it is missing, no parquet, or damaged; if it
    has a beginning and no end, ``unfinished`` says what to do."""
    try:
        file = pq.ParquetFile(path)
        table = file.read(columns=[name for name in file.schema_arrow.names if wanted(name)])
        table.validate(full=True)
    except ARROW_FAILS as error:
        raise DataError(_unreadable(path, error, remedy, unfinished)) from None
    return table


def _unreadable(path: Path, error: Exception, remedy: str, unfinished: str) -> str:
    if not path.exists():
        return f"{path} does not exist, though the metadata say that it does. Copy it there."
    if not path.is_file():
        return f"{path} is a folder, where a parquet file should be. {remedy}"
    with path.open("rb") as file:
        begins = file.read(4) == b"PAR1"
        file.seek(-min(4, path.stat().st_size), 2)
        if begins and file.read() != b"PAR1":
            return f"{path} can't be read as parquet: it has a beginning and no end. {unfinished}"
    return f"{path} can't be read as parquet ({error}). {remedy}"


def rows_of(table: pa.Table, path: Path) -> list[dict[str, Any]]:
    """Rows as Python objects. Raises DataError: they hold text that isn't UTF-8, or what Python has no value for."""
    values = {}
    for name in table.column_names:
        try:
            values[name] = table[name].to_pylist()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: column {name!r} holds text that isn't UTF-8: {error}") from None
        except ARROW_FAILS as error:
            raise DataError(f"{path}: column {name!r} can't be read: {error}") from None
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
