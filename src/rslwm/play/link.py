"""A drive as a line of text: where it begins and every action, from which all its frames follow."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import asdict

import numpy as np

from rslwm.play.beginnings import Beginning
from rslwm.serialisation import ConfigError, from_dict
from rslwm.types import DataError

STEPS = 2**15 - 1
"""Actions are kept as whole numbers from minus this to this: what is done is what a link says, to the last bit."""
LONGEST = 2000
"""Actions of a drive."""
_FORMAT = 1
_BYTES = 2**20  # of what a link unpacks to


def quantised(action: np.ndarray) -> np.ndarray:
    """A normalised action (..., A), clipped to [-1, 1], as int16."""
    return np.rint(np.clip(np.asarray(action, np.float64), -1, 1) * STEPS).astype(np.int16)


def meant(action: np.ndarray) -> np.ndarray:
    """Inverse of :func:`quantised`, float32."""
    return (np.asarray(action, np.float64) / STEPS).astype(np.float32)


def encode(beginning: Beginning, actions: np.ndarray) -> str:
    """A link of actions (F, A) int16: letters, digits, ``-`` and ``_``."""
    about = {"format": _FORMAT, "dims": actions.shape[1], "beginning": asdict(beginning)}
    head = json.dumps(about, separators=(",", ":")).encode()
    packed = zlib.compress(head + b"\n" + np.ascontiguousarray(actions, "<i2").tobytes(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(link: str) -> tuple[Beginning, np.ndarray]:
    """Where it begins, and the actions (F, A) int16. Raises DataError: it is no link, or not one of this version."""
    try:
        padded = link.strip() + "=" * (-len(link.strip()) % 4)
        reader = zlib.decompressobj()
        raw = reader.decompress(base64.b64decode(padded, altchars=b"-_", validate=True), _BYTES)
        head, _, body = raw.partition(b"\n")
        about = json.loads(head)
        version, dims = about["format"], int(about["dims"])
        actions = np.frombuffer(body, "<i2").astype(np.int16).reshape(-1, dims)
        whole = reader.eof and dims > 0
    except (binascii.Error, zlib.error, ValueError, KeyError, TypeError, UnicodeError) as error:
        raise DataError(f"link: it can't be read ({error}); copy the whole of it") from None
    if version != _FORMAT or not whole or len(actions) > LONGEST:
        found = f"format {version!r}, {len(actions)} actions"
        raise DataError(f"link: {found}; this version reads format {_FORMAT} with at most {LONGEST} actions")
    try:
        return from_dict(Beginning, about["beginning"], "link"), actions
    except ConfigError as error:
        raise DataError(f"link: {error}") from None
