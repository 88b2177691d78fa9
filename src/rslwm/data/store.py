"""Tensors of many episodes on disk, read through the page cache: encode once, train many."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from operator import length_hint
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rslwm.data.parquet import read_columns, rows_of
from rslwm.files import json_object
from rslwm.storage import is_uri, mirrored
from rslwm.tensors import noted, write_tensors
from rslwm.types import DataError, Progress, silent

Places = Sequence[tuple[str, range]]  # episodes, and rows of each
Item = tuple[str, Tensor | np.ndarray | Callable[[], Tensor | np.ndarray]]

INDEX = "index.parquet"
SUMS = "crc32"
HEADER = "rslwm"
_COLUMNS = {"key": pa.string(), "shard": pa.string(), "shape": pa.list_(pa.int64()), "bytes": pa.int64()}
_SUMS = pa.list_(pa.uint32())
_AGAIN = f"Delete {INDEX} and write again."
SHARD = 256 * 2**20  # bytes from which on a shard is written and another begun
PIECE = "piece"
PIECE_SECONDS = 5.0
"""After which what is made of a shard is kept as a piece of it, so that a kill loses no more; the shard replaces it."""


class Tensors(Protocol):
    """Tensors by episode: a :class:`TensorStore`, or something that makes them."""

    @property
    def keys(self) -> list[str]: ...

    @property
    def meta(self) -> dict[str, Any]: ...

    def __getitem__(self, key: str) -> Tensor: ...


class Readable(Tensors, Protocol):
    """Tensors that can be read in parts: a :class:`TensorStore`, or latents that are made when they are read."""

    def shape(self, key: str) -> tuple[int, ...]: ...

    def read(self, places: Places) -> Tensor: ...


class TensorStore:
    """Memory-mapped safetensors shards, one tensor an episode, plus an index.

    ``store[key]`` is a view of the mapped file, which is private: writing into it never reaches the file. :meth:`read`
    reads the asked rows and no others. Whatever is read first is held against its checksum in the index. A root that is
    an address (s3://...) is copied to this machine first. Raises DataError: the index or a shard is missing, truncated,
    damaged or not what the index says.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = mirrored(str(root)) if is_uri(root) else Path(root)
        index = self.root / INDEX
        if not index.is_file():
            raise DataError(f"{index} does not exist: the store was never finished. Write it again; it resumes.")
        table = read_columns(index, remedy=_AGAIN, unfinished=_AGAIN)
        kinds = _COLUMNS | ({SUMS: _SUMS} if SUMS in table.column_names else {})  # which earlier versions didn't write
        if unlike := [name for name, kind in kinds.items() if _type_of(table, name) != kind]:
            raise DataError(f"{index} has no column {unlike[0]!r}, or one of another type. {_AGAIN}")
        self.meta = json_object((table.schema.metadata or {}).get(HEADER.encode(), b""), f"{index}: {HEADER}")
        self._sums = _Checksums(table)
        self._rows = {row["key"]: row for row in rows_of(table.select([*_COLUMNS]), index)}
        self.keys = [*self._rows]
        self.nbytes = sum(row["bytes"] for row in self._rows.values())
        names = table["shard"].unique().to_pylist()
        if strange := [name for name in names if Path(name).name != name]:
            raise DataError(f"{index}: {strange[0][:200]!r} is no shard of this folder. {_AGAIN}")
        self._files = {name: _open(self.root / name) for name in names}
        held = {name: {*file.keys()} for name, file in self._files.items()}
        for key, row in self._rows.items():
            path = self.root / row["shard"]
            if key not in held[row["shard"]]:
                raise DataError(f"{path} has no tensor {key!r}. Delete {self.root} and write again.")
            shape = self._files[row["shard"]].get_slice(key).get_shape()
            if shape != row["shape"]:
                raise DataError(f"{path}: tensor {key!r} is {shape}, {INDEX} says {row['shape']}. {_AGAIN}")

    def __str__(self) -> str:
        return str(self.root)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an episode's tensor, (T, ...), without touching it."""
        return tuple(self._row(key)["shape"])

    def __getitem__(self, key: str) -> Tensor:
        tensor = self._mapped(key)
        self._require_whole(key, tensor, range(len(tensor)) if tensor.ndim else range(0))
        return tensor

    def _mapped(self, key: str) -> Tensor:
        return self._files[self._row(key)["shard"]].get_tensor(key)

    def _require_whole(self, key: str, tensor: Tensor, rows: range) -> None:
        if (step := self._sums.differing(key, tensor, rows)) is not None:
            path = self.root / self._row(key)["shard"]
            raise DataError(f"{path} is damaged: row {step} of episode {key!r}. Delete {self.root} and write it again.")

    def read(self, places: Places) -> Tensor:
        """A copy of these rows, as many of each episode: (N, T, ...). Only their bytes are read."""
        first, rows = places[0]
        read = self._mapped(first).new_empty(len(places), len(rows), *self.shape(first)[1:])
        for number, (key, rows) in enumerate(places):
            tensor = self._mapped(key)
            self._require_whole(key, tensor, rows)
            read[number] = tensor[rows.start : rows.stop : rows.step]
        return read

    def _row(self, key: str) -> dict[str, Any]:
        if key not in self._rows:
            raise DataError(f"{self.root} holds no episode {key!r}; it has {len(self.keys)}, the first {self.keys[:3]}")
        return self._rows[key]

    @classmethod
    def write(
        cls,
        root: Path | str,
        items: Iterable[Item],
        meta: dict[str, Any],
        shard_bytes: int = SHARD,
        progress: Progress = silent,
    ) -> TensorStore:
        """Write ``items`` in order and open the result. Floating point is stored as bfloat16, integers as they are.

        A value may be a function without arguments: it is called only for an episode that isn't written yet, so that a
        run that was killed continues, and loses a few seconds. A store with an index is complete, and writing it again
        does nothing.
        Raises DataError: a key comes twice, or ``root`` holds a store with another ``meta``.
        """
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        if (root / INDEX).is_file():
            store = cls(root)
            _require_meta(root, store.meta, meta)
            return store
        finished, pieces = finished_shards(root, meta), finished_shards(root, meta, PIECE)
        seen: set[str] = set()
        pending: dict[str, Tensor] = {}
        fresh: dict[str, Tensor] = {}  # those of the pending ones that are in no piece
        saved = time.monotonic()
        for done, (key, value) in enumerate(items, 1):
            if key in seen:
                raise DataError(f"episode {key!r} comes twice for the store {root}; ids must be unique")
            seen.add(key)
            if key in pieces and key not in finished:
                pending[key] = _open(pieces[key]).get_tensor(key)
            elif key not in finished:
                pending[key] = fresh[key] = _storable(value() if callable(value) else value)
            if pending and sum(tensor.nbytes for tensor in pending.values()) >= shard_bytes:
                _save(root, pending, meta)
                pending, fresh = {}, {}
            elif fresh and time.monotonic() - saved >= PIECE_SECONDS:
                _save(root, fresh, meta, PIECE)
                fresh, saved = {}, time.monotonic()
            progress(done, length_hint(items), f"episode {key}")
        if pending:
            _save(root, pending, meta)
        _write_index(root, seen, meta)
        return cls(root)


def _type_of(table: pa.Table, name: str) -> pa.DataType | None:
    """Of a column in which no row is empty."""
    there = name in table.column_names and not table[name].null_count
    return table.schema.field(name).type if there else None


class _Checksums:
    """CRC-32 of every row of every episode, looked at once a process; of none in a store of an earlier version."""

    def __init__(self, index: pa.Table) -> None:
        self._of: dict[str, np.ndarray] = {}
        self._seen: dict[str, np.ndarray] = {}
        if SUMS in index.column_names:
            sums = index[SUMS].combine_chunks()
            numbers, ends = sums.values.to_numpy(), sums.offsets.to_numpy()
            self._of = {key: numbers[ends[i] : ends[i + 1]] for i, key in enumerate(index["key"].to_pylist())}

    def differing(self, key: str, tensor: Tensor, rows: range) -> int | None:
        """The first of these rows of an episode that isn't what was written."""
        if (sums := self._of.get(key)) is None:
            return None
        seen = self._seen.setdefault(key, np.zeros(len(sums), bool))
        for row in rows:
            if not seen[row]:
                if _checksum(tensor[row]) != sums[row]:
                    return row
                seen[row] = True
        return None


def _checksum(row: Tensor) -> int:
    return zlib.crc32(row.contiguous().view(-1).view(torch.uint8).numpy().tobytes())


def _storable(value: Tensor | np.ndarray) -> Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    return (tensor.bfloat16() if tensor.is_floating_point() else tensor).contiguous()


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, TypeError) as error:
        raise DataError(f"{path} can't be read ({error}). Delete this shard and {INDEX}, then write again.") from None


def _save(root: Path, tensors: dict[str, Tensor], meta: dict[str, Any], kind: str = "shard") -> None:
    """Write a shard, which makes the pieces of it superfluous, or one of these."""
    path = next(free for n in count() if not (free := root / f"{kind}-{n:05d}.safetensors").exists())
    partial = path.with_suffix(".partial")
    # A safetensors file sorts its tensors, hence the order of the episodes beside them; and it shuffles the entries of
    # its metadata, hence a single one: the same latents are the same bytes.
    write_tensors(tensors, partial, {HEADER: json.dumps({"meta": meta, "order": [*tensors]}, sort_keys=True)})
    os.replace(partial, path)
    if kind != PIECE:
        for piece in root.glob(f"{PIECE}-*.safetensors"):
            piece.unlink()


def finished_shards(root: Path, meta: dict[str, Any], kind: str = "shard") -> dict[str, Path]:
    """The keys that were written so far, by an interrupted run for instance, and the shard of each, or the piece of
    one. Raises DataError: they are of a store with another ``meta``."""
    shards: dict[str, Path] = {}
    for path in sorted(root.glob(f"{kind}-*.safetensors")):
        header = noted(_open(path), HEADER, path)
        _require_meta(root, header["meta"], meta)
        shards |= dict.fromkeys(header["order"], path)
    return shards


def _require_meta(root: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps(here))
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            differ = f"meta {name!r} is {there.get(name)!r} there and {wanted.get(name)!r} here"
            raise DataError(f"{root} holds tensors of something else: {differ}. Delete it, or write to another folder.")


def _write_index(root: Path, keys: set[str], meta: dict[str, Any]) -> None:
    shards = finished_shards(root, meta)
    if extra := shards.keys() - keys:
        raise DataError(f"{root} holds {min(extra)!r}, which is not among the episodes to write. Delete the folder.")
    files = {path: _open(path) for path in dict.fromkeys(shards.values())}
    tensors = ((key, path, files[path].get_tensor(key)) for key, path in shards.items())
    rows = [
        {"key": key, "shard": path.name, "shape": [*x.shape], "bytes": x.nbytes, SUMS: [*map(_checksum, x)]}
        for key, path, x in tensors
    ]
    schema = pa.schema(_COLUMNS | {SUMS: _SUMS}, {HEADER: json.dumps(meta)})
    partial = root / f"{INDEX}.partial"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)
    os.replace(partial, root / INDEX)
