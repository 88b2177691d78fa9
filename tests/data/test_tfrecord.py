import struct
from pathlib import Path

import numpy as np
import pytest

from rslwm.data.tfrecord import masked_checksum, parse_example, read_records
from rslwm.types import DataError


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksums_are_those_of_rfc_3720_rotated_and_offset(data: bytes, checksum: int) -> None:
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    assert struct.unpack("<I", masked_checksum(data)) == ((rotated + 0xA282EAD8) % 2**32,)


def framed(*records: bytes) -> bytes:
    lengths = [struct.pack("<Q", len(record)) for record in records]
    return b"".join(
        n + masked_checksum(n) + record + masked_checksum(record) for n, record in zip(lengths, records, strict=True)
    )


def test_records_come_back(tmp_path: Path) -> None:
    records = [b"", b"short", bytes(2000)]
    (tmp_path / "r").write_bytes(framed(*records))
    assert list(read_records(tmp_path / "r")) == records


def test_damage_is_located(tmp_path: Path) -> None:
    whole = framed(b"first", b"second record")
    damaged = {
        r"r: record 1, byte 21: truncated, 13 of 13": whole[:-2],
        r"r: record 1, byte 21: truncated, 6 of 13": whole[:-11],
        r"r: record 1, byte 21: the record's length is damaged": whole[:25],
        r"r: record 0, byte 0: the record's length is damaged": b"\x09" + whole[1:],
        r"r: record 0, byte 0: wrong checksum": whole[:12] + b"F" + whole[13:],
    }
    for message, content in damaged.items():
        (tmp_path / "r").write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(read_records(tmp_path / "r"))


def test_an_example_of_all_three_kinds() -> None:
    # features { feature { key: "f" value { float_list { value: [1.5, -2] } } } ... }, encoded by hand.
    floats = b"\x12\x0a\x0a\x08" + struct.pack("<2f", 1.5, -2)
    texts = b"\x0a\x07\x0a\x02ab\x0a\x01c"
    packed = b"\x1a\x0f\x0a\x0d\x00\xac\x02" + b"\xff" * 9 + b"\x01"
    entries = b""
    for key, value in ((b"f", floats), (b"b", texts), (b"i", packed)):
        pair = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(value)]) + value
        entries += b"\x0a" + bytes([len(pair)]) + pair
    example = parse_example(b"\x0a" + bytes([len(entries)]) + entries)
    np.testing.assert_array_equal(example["f"], np.array([1.5, -2], np.float32))
    assert example["b"] == [b"ab", b"c"]
    np.testing.assert_array_equal(example["i"], [0, 300, -1])


def test_other_bytes_are_no_example() -> None:
    with pytest.raises(DataError, match=r"not a tf\.Example"):
        parse_example(b"\x0a\xff garbage")
