"""Three ways to write arrays into messages: json-numpy, openpi's msgpack and that of vla-eval.

They look alike and exclude each other: openpi's keys are bytes, vla-eval's are text, and neither is the encoding of the
package msgpack-numpy. What is read is never executed, and no larger than :data:`rslwm.remote.arrays.MAX_BYTES`.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import io
import json
import math
import struct
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from rslwm.remote.arrays import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_ITEMS,
    ProtocolError,
    array,
    plain_dtype,
    plain_shape,
)  # fmt: skip
from rslwm.serialisation import ConfigError

_PLAIN = (type(None), bool, int, float, str, bytes)
_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
                 struct.error, zlib.error, Image.DecompressionBombError)  # fmt: skip
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
Revive = Callable[[dict], Any]
"""A map to what it stands for, or to itself."""


def needs(module: str) -> ModuleType:
    """A module of the extra ``policies``. Raises ConfigError: it isn't installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        remedy = "pip install 'rslwm[policies]'"
        raise ConfigError(f"this protocol needs the package {module.partition('.')[0]!r}: {remedy}") from None


# ---------------------------------------------------------------------------------------------------- json-numpy


def to_json(value: Any) -> str:
    """Arrays as json-numpy 2 writes them: base64 of the bytes in C order, dtype, shape."""
    return json.dumps(value, default=_json_array)


def from_json(text: bytes | str) -> Any:
    """Inverse of :func:`to_json`. Raises ProtocolError: it isn't JSON, is too large, or holds an impossible array."""
    if len(text) > MAX_BYTES:
        raise ProtocolError(f"a message of {len(text)} bytes; the limit is {MAX_BYTES}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from None
    return _revived(value, _from_json_array)


def _json_array(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        _sendable(value)
        data = base64.b64encode(value.tobytes()).decode()
        return {"__numpy__": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    raise TypeError(f"{type(value).__name__} can't be sent")


def _from_json_array(value: dict) -> Any:
    if "__numpy__" not in value:
        return value
    data, dtype, shape = value["__numpy__"], value.get("dtype"), value.get("shape")
    expected = math.prod(plain_shape(shape)) * plain_dtype(dtype).itemsize
    if not isinstance(data, str) or len(data) != 4 * math.ceil(expected / 3):
        raise ProtocolError(f"'__numpy__' isn't the base64 of the {expected} bytes of shape {shape}, dtype {dtype}")
    try:
        found = array(base64.b64decode(data, validate=True), dtype, shape)
    except binascii.Error as error:
        raise ProtocolError(f"'__numpy__' isn't base64: {error}") from None
    return found if found.ndim else found.item()


# ------------------------------------------------------------------------------------------------ openpi's msgpack


def pack_openpi(value: Any) -> bytes:
    """As openpi_client.msgpack_numpy: maps with bytes as keys stand for arrays."""
    return needs("msgpack").packb(value, default=_openpi_array)


def unpack_openpi(data: bytes) -> Any:
    """Inverse of :func:`pack_openpi`. Raises ProtocolError: it isn't msgpack, too large, or an impossible array."""
    return _unpacked(data, _from_openpi_array)


def _openpi_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _sendable(value)
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        _sendable(value)
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} can't be sent")


def _from_openpi_array(value: dict) -> Any:
    if b"__ndarray__" in value:
        return array(_bytes(value.get(b"data")), value.get(b"dtype"), value.get(b"shape"))
    if b"__npgeneric__" in value:
        data = value.get(b"data")
        if not isinstance(data, bool | int | float | str):
            raise ProtocolError(f"a numpy scalar is {type(data).__name__}")
        return data
    return value


# ---------------------------------------------------------------------------------------------- vla-eval's msgpack


def pack_vla_eval(value: Any) -> bytes:
    """As vla_eval.protocol: maps with text as keys stand for arrays, pictures (H, W, 3 or 4) go as PNG."""
    return needs("msgpack").packb(value, default=_vla_eval_array, use_bin_type=True)


def unpack_vla_eval(data: bytes) -> Any:
    """Inverse of :func:`pack_vla_eval`, also of pictures as JPEG or raw. Raises ProtocolError as the others do."""
    return _unpacked(data, _from_vla_eval_array)


def _vla_eval_array(value: Any) -> Any:
    if isinstance(value, np.generic):
        _sendable(value)
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} can't be sent")
    _sendable(value)
    if value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] in (3, 4) and value.size:
        png = io.BytesIO()
        Image.fromarray(value).save(png, "PNG", compress_level=1)
        return {"__image__": True, "format": "png", "data": png.getvalue(), "shape": list(value.shape)}
    return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}


def _from_vla_eval_array(value: dict) -> Any:
    if "__image__" in value:
        kind = value.get("format")
        if kind == "raw":
            return array(_bytes(value.get("data")), value.get("dtype"), value.get("shape"))
        if kind not in ("png", "jpeg"):
            raise ProtocolError(f"a picture's format is {kind!r}; expected png, jpeg or raw")
        return _picture(_bytes(value.get("data")), kind, value.get("shape"))
    if "__ndarray__" in value:
        return array(_bytes(value.get("data")), value.get("dtype"), value.get("shape"))
    return value


def _picture(data: bytes, kind: str, shape: Any) -> np.ndarray:
    """Only what the picture's header and its ``shape`` agree about is decoded."""
    sizes = plain_shape(shape)
    if len(sizes) != 3 or sizes[2] not in _MODES or math.prod(sizes) > MAX_BYTES:
        raise ProtocolError(f"a picture has shape {sizes}; expected (H, W, 1, 3 or 4), {MAX_BYTES} numbers at most")
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            if (picture.height, picture.width, picture.mode) == (*sizes[:2], _MODES[sizes[2]]):
                return np.array(picture).reshape(sizes)
            told = f"{picture.height} x {picture.width}, {picture.mode}"
    except _BROKEN_IMAGE as error:
        raise ProtocolError(f"a picture can't be decoded as {kind}: {error}") from None
    raise ProtocolError(f"a picture is {told}, its shape says {sizes}")


# ------------------------------------------------------------------------------------------------------------ both


def _unpacked(data: bytes, revive: Revive) -> Any:
    if len(data) > MAX_BYTES:
        raise ProtocolError(f"a message of {len(data)} bytes; the limit is {MAX_BYTES}")
    msgpack = needs("msgpack")
    try:
        value = msgpack.unpackb(data, raw=False, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not msgpack: {type(error).__name__} {error}") from None
    return _revived(value, revive)


def _revived(value: Any, revive: Revive, depth: int = 0) -> Any:
    """With arrays in the place of the maps that stand for them."""
    if depth > MAX_DEPTH:
        raise ProtocolError(f"a message of more than {MAX_DEPTH} lists and maps inside each other")
    if isinstance(value, list):
        return [_revived(entry, revive, depth + 1) for entry in value]
    if isinstance(value, dict):
        found = revive(value)
        return {k: _revived(v, revive, depth + 1) for k, v in value.items()} if found is value else found
    if not isinstance(value, _PLAIN):
        raise ProtocolError(f"a message holds a {type(value).__name__}, which the protocol doesn't know")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ProtocolError(f"an array's data are {type(value).__name__} instead of bytes")
    return value


def _sendable(value: np.ndarray | np.generic) -> None:
    if value.dtype.kind not in "biuf":
        raise TypeError(f"arrays of dtype {value.dtype} can't be sent")
