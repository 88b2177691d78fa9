"""TFRecord files and the tf.Example messages in them, without TensorFlow.

A record is: length (uint64), masked CRC-32C of the length, the bytes, masked CRC-32C of the bytes, little-endian. See
https://www.tensorflow.org/tutorials/load_data/tfrecord and tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from rslwm.types import DataError

Value = list[bytes] | np.ndarray
"""A feature: byte strings, float32 values or int64 values."""

_LONGEST = 10
"""Bytes of a 64-bit number as a varint."""

_OTHERS = {
    b"\x1f\x8b": "compressed with gzip, which isn't supported. Unpack it: gunzip",
    b"version http": "a pointer of Git LFS, not the file. Fetch that: git lfs pull",
}
"""How files begin that stand in a record file's place."""


def read_records(path: Path, verify: bool = True) -> Iterator[bytes]:
    """The records of one file; ``verify`` computes the checksum of their content too, not only of their length. Raises
    DataError: the file is truncated or a checksum is wrong; the message gives record and byte offset."""
    size = path.stat().st_size
    with path.open("rb") as file:
        number = 0
        while header := file.read(12):
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
            number += 1


def parse_example(record: bytes) -> dict[str, Value]:
    """Features of a serialised tf.Example by name. Raises DataError: the bytes are not such a message."""
    features: dict[str, Value] = {}
    try:
        for _, container in _fields(memoryview(record)):  # Example.features
            for _, entry in _fields(container):  # Features.feature, a map: key 1, value 2
                pair = dict(_fields(entry))
                features[bytes(pair[1]).decode()] = _value(pair.get(2, memoryview(b"")))
    except (IndexError, KeyError, ValueError, OverflowError) as error:
        raise DataError(f"a record is not a tf.Example ({error!r})") from None
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
