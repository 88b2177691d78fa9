"""What happens to files: bytes that are lost, changed or moved, and values that aren't what they should be."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from rslwm.data.tfrecord import masked_checksum, read_records

JUNK: list[Any] = [
    None, 0, -1, 1.5, float("nan"), float("inf"), -(2**63), 2**31, 10**20, 10**400, 1e308, True, "", "x", "[/red]",
    "é\u202e名", "\ud800", "../..", "/etc/passwd", "1e-3", [], {}, ["a"], {"a": 1}, [[]] * 3, "a" * 5000,
]  # fmt: skip


def spoilt(value: Any, rng: random.Random) -> Any:
    """The same with one entry missing, doubled, renamed or replaced."""
    if isinstance(value, dict) and value:
        key = rng.choice(sorted(value, key=str))
        rest = {k: v for k, v in value.items() if k != key}
        chance = rng.random()
        if chance < 0.2:
            return rest
        return rest | ({f"{key}_": value[key]} if chance < 0.25 else {key: spoilt(value[key], rng)})
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        part = [value[place]] * 2 if rng.random() < 0.1 else [spoilt(value[place], rng)]
        return [*value[:place], *part, *value[place + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return rng.choice([-value, value * 1000, value + 1, float(value), str(value), 2**40])
    return rng.choice(JUNK)


# ------------------------------------------------------------------------------------------------------------- bytes


def _truncated(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def _flipped(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _swapped(data: bytearray, rng: random.Random) -> bytes:
    size = rng.randint(1, max(1, len(data) // 3))
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return bytes(data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :])


def _zeroed(data: bytearray, rng: random.Random) -> bytes:
    start = _place(data, rng)
    end = min(len(data), start + rng.choice([1, 8, 64, 512, 4096]))
    return bytes(data[:start] + bytes(end - start) + data[end:])


def _inflated(data: bytearray, rng: random.Random) -> bytes:
    """A number that may be a length says more than there is."""
    start, width = _place(data, rng), rng.choice([1, 2, 4, 8])
    largest = rng.choice([2 ** (8 * width) - 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 2)])
    number = largest.to_bytes(width, rng.choice(["little", "big"]))
    return bytes(data[:start] + number + data[start + width :])


def _inserted(data: bytearray, rng: random.Random) -> bytes:
    start = _place(data, rng)
    new = rng.choice([b"\xff\xfe", "é\u202e".encode(), rng.randbytes(16), bytes(data[: rng.randint(1, 300)])])
    return bytes(data[:start] + new + data[start:])


def _randomised(data: bytearray, rng: random.Random) -> bytes:
    start = _place(data, rng)
    end = min(len(data), start + rng.choice([1, 4, 32, 256]))
    return bytes(data[:start] + rng.randbytes(end - start) + data[end:])


def _place(data: bytearray, rng: random.Random) -> int:
    """Where most formats keep what they need to read the rest: near the beginning or the end, or anywhere."""
    near = min(len(data), rng.choice([16, 256, len(data)]))
    return rng.randrange(near) if rng.random() < 0.6 else len(data) - 1 - rng.randrange(near)


BYTES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _truncated, _flipped, _swapped, _zeroed, _inflated, _inserted, _randomised,
)  # fmt: skip


def any_bytes(data: bytes, rng: random.Random) -> bytes:
    """One of these, or an empty file."""
    return rng.choice(BYTES)(bytearray(data), rng) if data and rng.random() < 0.97 else b""


# ----------------------------------------------------------------------------------------------------------- formats


def _json(path: Path, rng: random.Random) -> None:
    path.write_text(json.dumps(spoilt(json.loads(path.read_text()), rng)), errors="surrogatepass")


def _json_lines(path: Path, rng: random.Random) -> None:
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(spoilt(json.loads(lines[place]), rng))
    path.write_text("\n".join(lines))


def _yaml(path: Path, rng: random.Random) -> None:
    content = spoilt(yaml.safe_load(path.read_text()), rng)
    path.write_bytes(yaml.safe_dump(content, sort_keys=False).encode(errors="surrogatepass"))


def _safetensors(path: Path, rng: random.Random) -> None:
    """Its header, the length of which stays true."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.dumps(spoilt(json.loads(data[8 : 8 + size]), rng)).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])


def _parquet(path: Path, rng: random.Random) -> None:
    """A column that is missing, of another type, or has holes; rows that are missing or doubled; no metadata."""
    table = pq.read_table(path)
    place, rows = rng.randrange(table.num_columns), len(table)
    name, chance = table.column_names[place], rng.random()
    if chance < 0.2:
        table = table.drop_columns([name])
    elif chance < 0.3:
        table = table.slice(rng.randrange(rows + 1), rng.randrange(rows + 1))
    elif chance < 0.4:
        table = table.replace_schema_metadata(rng.choice([None, {b"rslwm": b"[1]"}, {b"rslwm": b"\xff"}]))
    elif chance < 0.5:
        table = table.take([rng.randrange(rows) for _ in range(rows)]) if rows else table
    elif chance < 0.75:
        values = table[name].to_pylist()
        for _ in range(rng.choice([1, 1, rows])):
            values[rng.randrange(rows)] = rng.choice([None, *JUNK[:9], "x", [], [1.0], b"\xff"])
        table = table.set_column(place, name, _column(values, table[name]))
    else:
        others: list[Any] = [None, "x", 1.5, 2**62, b"\xff\xd8", [float("nan")] * 7, [], {"bytes": b"x"}]
        table = table.set_column(place, name, pa.array([rng.choice(others)] * rows))
    pq.write_table(table, path)


def _column(values: list[Any], like: pa.ChunkedArray) -> pa.Array:
    """Of its old type if that takes them, else of whatever fits."""
    for kind in (like.type, None):
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            continue
    return pa.array([None] * len(values))


def _tfrecord(path: Path, rng: random.Random) -> None:
    """Its records, whose checksums stay true."""
    records = [*read_records(path)]
    place = rng.randrange(len(records))
    records[place] = any_bytes(records[place], rng)
    framed = []
    for record in records:
        length = struct.pack("<Q", len(record))
        framed.append(length + masked_checksum(length) + record + masked_checksum(record))
    path.write_bytes(b"".join(framed))


FORMATS: dict[str, Callable[[Path, random.Random], None]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".yaml": _yaml,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}
"""Damage that leaves a file what it is, and its content wrong."""


SPOILT = (ValueError, TypeError, LookupError, OverflowError, OSError, struct.error, pa.ArrowException, yaml.YAMLError)
"""What a file raises that can't be taken apart any more."""


def damage(folder: Path, rng: random.Random) -> str:
    """Spoil one or two of the files in a folder; says what was done."""
    done = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            break
        path, chance = rng.choice(files), rng.random()
        named = _tfrecord if "tfrecord" in path.name else FORMATS.get(path.suffix)
        if named and chance < 0.5:
            try:
                named(path, rng)
                done.append(f"{named.__name__[1:]} of {path.relative_to(folder)}")
                continue
            except SPOILT:
                pass  # it is damaged already
        done.append(f"{_whole(path, files, rng) if chance > 0.92 else _some(path, rng)} of {path.relative_to(folder)}")
    return ", ".join(done)


def _some(path: Path, rng: random.Random) -> str:
    path.write_bytes(any_bytes(path.read_bytes(), rng))
    return "bytes"


def _whole(path: Path, files: list[Path], rng: random.Random) -> str:
    kind = rng.choice(["missing", "another file", "renamed", "a folder"])
    if kind == "another file":
        path.write_bytes(rng.choice(files).read_bytes())
    elif kind == "renamed":
        path.rename(path.with_name(f"é {path.name}"))
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
    return kind
