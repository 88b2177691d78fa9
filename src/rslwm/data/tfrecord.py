"""RLDS episodes: TFRecord files and the tf.Example messages in them, without TensorFlow.

A record is: length (uint64), masked CRC-32C of the length, the bytes, masked CRC-32C of the bytes, little-endian. See
https://www.tensorflow.org/tutorials/load_data/tfrecord and tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from PIL import Image, UnidentifiedImageError

from rslwm.data.frames import BLACK, rgb
from rslwm.data.leaves import Leaf
from rslwm.types import DataError

Value = list[bytes] | np.ndarray  # byte strings, float32 values or int64 values

_LONGEST = 10  # bytes of a 64-bit number as a varint
_OTHERS = {  # how files begin that stand in a record file's place
    b"\x1f\x8b": "compressed with gzip, which isn't supported. Unpack it: gunzip",
    b"version http": "a pointer of Git LFS, not the file. Fetch that: git lfs pull",
}


@dataclass
class Example:
    """An episode: a tf.Example with the values of all steps one behind the other. Reading a feature raises
    :class:`DataError` if it isn't what ``features.json`` says."""

    where: str
    values: dict[str, Value]

    @cached_property
    def source(self) -> list[str]:
        return self.texts(Leaf("episode_metadata/file_path", "text"))

    @cached_property
    def digest(self) -> str:
        """A hash of what the episode holds; of pictures the first ones."""
        content = hashlib.sha256()
        for key, value in sorted(self.values.items()):
            if key.startswith("steps/observation/") and isinstance(value, list) and value:
                content.update(value[0])
            elif key.startswith("steps/action") or (key.startswith("steps/") and not isinstance(value, list)):
                content.update(value.tobytes() if isinstance(value, np.ndarray) else b"".join(value))
        return content.hexdigest()[:12]

    @cached_property
    def name(self) -> str:
        """From its source file and number where given."""
        numbered = self.values.get("episode_metadata/episode_id", [])
        numbers = [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in numbered]
        return ":".join(self.source + numbers) or self.digest

    @property
    def rewards(self) -> np.ndarray:
        return np.asarray(self._stored_numbers("steps/reward", "rewards are numbers"), np.float32)

    def _stored_numbers(self, key: str, remark: str) -> np.ndarray:
        stored = self.values.get(key, [])
        if isinstance(stored, list) and stored:
            raise DataError(f"{self.where}: {key!r} holds bytes; {remark}")
        return np.asarray(stored)

    def numbers(self, leaf: Leaf) -> np.ndarray:
        """(T, *shape): values one behind the other, or a packed tensor each step."""
        if leaf.encoding != "none":
            stored = self.values.get(leaf.key, [])
            if not isinstance(stored, list) or not stored:
                raise DataError(f"{self.where} has no {leaf.key!r} packed as {leaf.encoding}, as features.json says")
            return np.stack([self._unpacked(item, leaf) for item in stored])
        values = self._stored_numbers(leaf.key, f"features.json says {leaf.what}")
        if leaf.dtype == "uint64":  # TFDS keeps its bits in an int64
            values = values.astype(np.int64).view(np.uint64)
        if not len(values) or len(values) % leaf.size:
            held = f"{len(values)} values of {leaf.key!r}"
            raise DataError(f"{self.where} has {held}; features.json says {leaf.size} a step")
        return values.reshape(-1, *leaf.shape)

    def _unpacked(self, item: bytes, leaf: Leaf) -> np.ndarray:
        try:
            data = zlib.decompress(item) if leaf.encoding == "zlib" else item
            return np.frombuffer(data, np.dtype(leaf.dtype)).reshape(leaf.shape)
        except (zlib.error, ValueError) as error:
            packed = f"{leaf.what} packed as {leaf.encoding}"
            raise DataError(f"{self.where}: a step of {leaf.key!r} is not {packed} ({error})") from None

    def texts(self, leaf: Leaf) -> list[str]:
        """The texts of a feature, one a step or one in all; of numbers, the characters that they are codes of."""
        stored = self.values.get(leaf.key, [])
        if leaf.kind == "numbers":
            codes = self.numbers(leaf).reshape(-1, leaf.size).astype(np.int64)
            if codes.min() < 0 or codes.max() > 255:
                held = f"{codes.min()} to {codes.max()}"
                raise DataError(f"{self.where}: {leaf.key!r} holds {held}, which are no characters' codes")
            stored = [bytes(row[row > 0].tolist()) for row in codes]
        if not isinstance(stored, list):
            raise DataError(f"{self.where}: {leaf.key!r} holds numbers; features.json says {leaf.what}")
        try:
            return [text.decode().strip() for text in stored]
        except UnicodeDecodeError as error:
            what = f"{leaf.key!r} is not UTF-8: {error.object!r} ({error.reason} at byte {error.start})"
            raise DataError(f"{self.where}: {what}. Remove the episode or write it again in UTF-8.") from None

    def pictures(self, leaf: Leaf) -> np.ndarray:
        """(T, H, W, 3) uint8"""
        stored = self.values.get(leaf.key, [])
        if not len(stored):
            raise DataError(f"{self.where} has no pictures of {leaf.key!r}, as others have. Remove the episode.")
        if leaf.kind == "numbers":
            return rgb(self.numbers(leaf).astype(np.uint8))  # a tf.Example has no smaller integers than int64
        frames = [self._picture(data, leaf) for data in stored]
        if len(sizes := {frame.shape[:2] for frame in frames}) > 1:
            raise DataError(f"{self.where}: the pictures of {leaf.key!r} differ in size: {str(sorted(sizes))[1:-1]}")
        return np.stack(frames)

    def _picture(self, data: Any, leaf: Leaf) -> np.ndarray:
        try:
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except UnidentifiedImageError:
            why = f"it is {data!r:.40}"
        except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
            why = str(error)
        what = f"an image of {leaf.key!r} can't be decoded ({why})"
        raise DataError(f"{self.where}: {what}. Remove the episode or write it again.")

    def is_black(self, leaf: Leaf) -> bool:
        """Judged by the middle frame. The ``has_image_*`` flags are 0 in public data whose images are there."""
        stored = self.values.get(leaf.key, [])
        if not len(stored):
            return True
        if leaf.kind != "numbers":
            return bool(self._picture(stored[len(stored) // 2], leaf).max() < BLACK)
        frames = self.numbers(leaf)
        return bool(frames[len(frames) // 2].max() < BLACK)


def read_examples(shard: Path, verify: bool = False) -> Iterator[Example]:
    """The episodes of a file; see :func:`read_records`."""
    for number, record in enumerate(read_records(shard, verify)):
        where = f"{shard}: record {number}"
        example = Example(where, parse_example(record, where))
        example.where += f", episode {example.name!r}"
        yield example


def read_records(path: Path, verify: bool = True) -> Iterator[bytes]:
    """The records of one file; ``verify`` computes the checksum of their content too, not only of their length. Raises
    DataError: the file is truncated or a checksum is wrong; the message gives record and byte offset."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for number, header in enumerate(iter(lambda: file.read(12), b"")):
            where = f"{path}: record {number}, byte {file.tell() - len(header)}"
            if other := next((what for start, what in _OTHERS.items() if not number and header.startswith(start)), ""):
                raise DataError(f"{path} is {other}")
            if len(header) < 12 or masked_checksum(header[:8]) != header[8:]:
                raise DataError(f"{where}: the record's length is damaged. Copy the file again.")
            (length,) = struct.unpack("<Q", header[:8])
            data, footer = file.read(min(length, size)), file.read(4)  # whatever it says, no more memory than that
            if len(data) + len(footer) < length + 4:
                raise DataError(f"{where}: truncated, {len(data)} of {length} bytes are there. Copy the file again.")
            if verify and masked_checksum(data) != footer:
                raise DataError(f"{where}: wrong checksum, the content is damaged. Copy the file again.")
            yield data


def parse_example(record: bytes, where: str = "the record") -> dict[str, Value]:
    """Features of a serialised tf.Example by name. Raises DataError: the bytes are not such a message."""
    features: dict[str, Value] = {}
    try:
        for _, container in _fields(memoryview(record)):  # Example.features
            for _, entry in _fields(container):  # Features.feature, a map: key 1, value 2
                pair = dict(_fields(entry))
                features[bytes(pair[1]).decode()] = _value(pair.get(2, memoryview(b"")))
    except (IndexError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{where} is not a tf.Example ({error!r})") from None
    return features


def _value(feature: memoryview) -> Value:
    for kind, content in _fields(feature):
        if kind == 1:
            return [bytes(item) for _, item in _fields(content)]
        parts = [item for _, item in _fields(content)]
        if kind == 2:
            return np.frombuffer(b"".join(parts), np.float32)
        return _varints(b"".join(parts))
    return []


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Field numbers and contents of a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire, start = tag & 7, at
        if wire == 0:
            _, at = _varint(message, at)
        elif wire == 2:
            length, start = _varint(message, at)
            at = start + length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(message):
            raise ValueError("a field is longer than its message")
        yield tag >> 3, message[start:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        if shift >= 7 * _LONGEST:
            raise ValueError("an integer has more than 64 bits")
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _varints(data: bytes) -> np.ndarray:
    """All the numbers of a packed field at once, int64: seven bits a byte, the lowest first, until one is below 128."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 128)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    lengths = ends - starts + 1
    if len(octets) and (octets[-1] >= 128 or lengths.max() > _LONGEST):
        raise ValueError("an integer doesn't end, or has more than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for k in range(lengths.max(initial=0)):
        there = lengths > k
        values[there] |= (octets[starts[there] + k] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * k)
    return values.astype(np.int64)


def masked_checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and offset so that a checksum of checksums stays sound."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
