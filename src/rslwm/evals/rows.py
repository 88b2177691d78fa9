"""The table of measurements: what a study keeps, and all that statistics, verdict and report are computed from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rslwm.data.parquet import read_columns
from rslwm.types import DataError

DTYPES: dict[str, type] = {
    "latent": str, "family": str, "size": str, "seed": int, "metric": str, "axis": str, "split": str, "unit": str,
    "k": int, "value": float, "higher_is_better": bool, "target": float, "window": int, "dim": str, "role": str,
}  # fmt: skip
"""The columns; a row is one measurement of one unit.

``unit`` is the episode: what the bootstrap resamples. ``window`` is the start frame inside it, ``k`` the horizon step,
``dim`` the action or state dimension where the metric has one. ``value`` is the measurement or, for metrics that are
not means (correlations, AUC), the prediction that ``target`` is compared with. ``role`` says whether the row measures
the space itself ("value"), its floor (knows nothing) or its ceiling (loses nothing).
"""
ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
TEST = "test"
"""The split of what is measured on held-out episodes as they were recorded; any other is the name of a perturbation."""
BY_TRUTH = ("metric", "split", "role", "dim", "unit", "window", "k", "latent", "seed")
_DEFAULTS = {"split": TEST, "k": 0, "target": np.nan, "window": 0, "dim": "", "role": "value"}

TRUTH = "truth"
"""Stands for what really happened where clips are listed by latent space; no space can have this name."""


@dataclass(frozen=True)
class Rows:
    """Measurements by column; ``columns[name]`` is (rows,) with the dtype of :data:`DTYPES`, words as objects, of which
    each is held once however many rows have it."""

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["latent"])

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def where(self, mask: np.ndarray) -> Rows:
        """The rows for which ``mask`` (rows,) is true."""
        return Rows({name: column[mask] for name, column in self.columns.items()})

    def distinct(self, column: str) -> tuple:
        """The column's values, each once, in the order of their first appearance."""
        return tuple(dict.fromkeys(self.columns[column].tolist()))

    @classmethod
    def broadcast(cls, **columns: Any) -> Rows:
        """Columns from arrays and scalars, broadcast against each other and flattened, the last axis fastest.

        ``split``, ``k``, ``target``, ``window``, ``dim`` and ``role`` may be left out.

        Raises:
            TypeError: another column is missing, or one is unknown.
        """
        given = {**_DEFAULTS, **columns}
        if unlike := given.keys() ^ DTYPES.keys():
            raise TypeError(f"missing or unknown columns: {', '.join(sorted(unlike))}; rows have {', '.join(DTYPES)}")
        spread = np.broadcast_arrays(*(np.asarray(given[name], _dtype(name)) for name in DTYPES))
        return cls({name: column.ravel() for name, column in zip(DTYPES, spread, strict=True)})

    @classmethod
    def concatenate(cls, tables: Sequence[Rows]) -> Rows:
        """These tables' rows, in order."""
        empty: dict[str, np.ndarray] = {name: np.array([], _dtype(name)) for name in DTYPES}
        return cls({name: np.concatenate([empty[name], *(table[name] for table in tables)]) for name in DTYPES})

    def by_truth(self) -> Rows:
        """The same rows, those that measure against the same truth side by side, which makes their file a third
        smaller; names are in the order of their first appearance."""
        codes = []
        for name in BY_TRUTH:
            position = {value: i for i, value in enumerate(self.distinct(name))}
            codes.append(np.fromiter((position[value] for value in self[name].tolist()), np.int32, len(self)))
        order = np.lexsort(codes[::-1])
        return Rows({name: column[order] for name, column in self.columns.items()})

    def save(self, path: Path) -> None:
        """Write parquet, atomically."""
        partial = path.with_name(path.name + ".partial")
        table = pa.table({name: pa.array(column, ARROW[DTYPES[name]]) for name, column in self.columns.items()})
        numbers = [name for name, dtype in DTYPES.items() if dtype is float]
        names = [name for name in DTYPES if name not in numbers]
        pq.write_table(
            table, partial, compression="zstd", compression_level=9, use_dictionary=names, use_byte_stream_split=numbers
        )
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path, metric: str | None = None) -> Rows:
        """Read parquet, of one ``metric`` or of all.

        Raises:
            DataError: the file is missing or unreadable, or lacks a column.
        """
        if not path.is_file():
            raise DataError(f"{path} does not exist; `rslwm compare` writes it into the folder of its run")
        table = read_columns(path, remedy=_AGAIN, unfinished=_AGAIN)
        if metric and "metric" in table.column_names:
            table = table.filter(pc.field("metric") == metric)
        if missing := [name for name in DTYPES if name not in table.column_names]:
            raise DataError(f"{path} has no column {missing[0]!r}; its columns: {', '.join(table.column_names)}")
        return cls({name: _to_numpy(table[name], dtype, f"{path}: column {name!r}") for name, dtype in DTYPES.items()})


def numbered(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column's values, sorted, and each row's position among them, (rows,) int."""
    if column.dtype != object:
        return np.unique(column, return_inverse=True)
    words = column.tolist()  # sorting a million of them would take a second
    values = sorted({*words})
    position = {word: i for i, word in enumerate(values)}
    return np.array(values, object), np.fromiter((position[word] for word in words), int, len(words))


def _dtype(name: str) -> type:
    return object if DTYPES[name] is str else DTYPES[name]


_AGAIN = "Measure again to write a new one."


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)


_KINDS = {str: _is_text, int: pa.types.is_integer, float: pa.types.is_floating, bool: pa.types.is_boolean}


def _to_numpy(column: pa.ChunkedArray, dtype: type, where: str) -> np.ndarray:
    if not _KINDS[dtype](column.type) or column.null_count:
        raise DataError(f"{where} is {column.type} with {column.null_count} gaps; expected {dtype.__name__}. {_AGAIN}")
    if dtype is not str or not len(column):
        return column.to_numpy().astype(object if dtype is str else dtype)
    coded = column.combine_chunks().dictionary_encode()
    return np.array(coded.dictionary.to_pylist(), object)[coded.indices.to_numpy()]
