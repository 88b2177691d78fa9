"""Numbers that somebody else sent: checked before anything is allocated for them."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from rslwm.types import DataError

MAX_BYTES = 32 * 2**20
"""Of one message, in either direction."""
MAX_ITEMS, MAX_DEPTH, MAX_AXES = 4096, 16, 6
"""Entries of a list or map, lists and maps inside each other, axes of an array."""

_DTYPE = re.compile(r"[<>|=]?[biuf][1248]|bool|u?int(8|16|32|64)|float(16|32|64)")


class ProtocolError(DataError):
    """What came over a connection isn't what the protocol says, or nothing came at all."""


def array(data: bytes, dtype: Any, shape: Any) -> np.ndarray:
    """The array whose bytes in C order these are, as a copy. Raises ProtocolError: a dtype other than of plain numbers,
    an impossible shape, or bytes for more or fewer numbers than it has."""
    kind = plain_dtype(dtype)
    sizes = plain_shape(shape)
    if len(data) != (expected := math.prod(sizes) * kind.itemsize):
        raise ProtocolError(f"an array of shape {sizes} and dtype {dtype} has {expected} bytes, got {len(data)}")
    found = np.ndarray(sizes, kind, data).copy()
    return found.view(np.uint8) != 0 if kind.kind == "b" else found


def plain_dtype(dtype: Any) -> np.dtype:
    """The dtype of this name: booleans, whole numbers and floats of up to 8 bytes. Raises ProtocolError: another."""
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ProtocolError(f"dtype {_short(dtype)} isn't one of plain numbers")
    try:
        return np.dtype(dtype)
    except TypeError:
        raise ProtocolError(f"dtype {_short(dtype)} isn't one of plain numbers") from None


def plain_shape(shape: Any) -> tuple[int, ...]:
    """The sizes of the axes. Raises ProtocolError: these aren't a few whole numbers."""
    listed = isinstance(shape, list | tuple) and len(shape) <= MAX_AXES
    if not listed or any(type(n) is not int or not 0 <= n <= MAX_BYTES for n in shape):
        raise ProtocolError(f"shape {_short(shape)} isn't that of an array")
    return tuple(shape)


def numbers(value: Any, what: str = "the action") -> np.ndarray:
    """Finite float64 numbers (D,) or (n, D), from an array or nested lists. Raises ProtocolError: anything else."""
    if isinstance(value, list) and len(value) <= MAX_ITEMS:
        rows = [v.tolist() if isinstance(v, np.ndarray) else v for v in value]
        flat = [n for row in rows for n in (row if isinstance(row, list) else [row])]
        if len({len(row) if isinstance(row, list) else -1 for row in rows}) > 1:
            raise ProtocolError(f"{what} has rows of several lengths: {_short(value)}")
        if any(isinstance(n, bool) or not isinstance(n, int | float) for n in flat):
            raise ProtocolError(f"{what} isn't made of numbers: {_short(value)}")
        value = np.array([[_float(n) for n in row] if isinstance(row, list) else _float(row) for row in rows])
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise ProtocolError(f"{what} isn't an array of numbers: {_short(value)}")
    if value.ndim not in (1, 2) or not value.size:
        raise ProtocolError(f"{what} has shape {value.shape}; expected (D,) or (n, D)")
    value = value.astype(np.float64)
    if not np.isfinite(value).all():
        raise ProtocolError(f"{what} isn't finite: {_short(value.tolist())}")
    return value


def _float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _short(value: Any, most: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
