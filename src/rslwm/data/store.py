"""Tensors of many episodes on disk, read through the page cache: encode once, train many."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rslwm.tensors import write_tensors
from rslwm.types import DataError

Places = Sequence[tuple[str, range]]
"""Episodes, and rows of each."""
Item = tuple[str, Tensor | np.ndarray | Callable[[], Tensor | np.ndarray]]

INDEX = "index.parquet"
HEADER = "rslwm"
SHARD = 256 * 2**20
"""Bytes from which on a shard is written and another begun."""


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

    ``store[key]`` is a view of the mapped file: nothing is read until its elements are used, and only those pages are.
    The mapping is private, so writing into a view never reaches the file.

    Raises:
        DataError: the index or a shard is missing, truncated or not what the index says.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        index = self.root / INDEX
        if not index.is_file():
            raise DataError(f"{index} does not exist: the store was never finished. Write it again; it resumes.")
        table = pq.read_table(index)
        self.meta: dict[str, Any] = json.loads(table.schema.metadata[HEADER.encode()])
        self.keys: list[str] = table["key"].to_pylist()
        self._shapes = dict(zip(self.keys, map(tuple, table["shape"].to_pylist()), strict=True))
        self._shard = dict(zip(self.keys, table["shard"].to_pylist(), strict=True))
        self.nbytes = sum(table["bytes"].to_pylist())
        self._files = {name: _open(self.root / name) for name in dict.fromkeys(self._shard.values())}
        for name, file in self._files.items():
            if missing := {key for key, shard in self._shard.items() if shard == name} - set(file.keys()):
                path = self.root / name
                raise DataError(f"{path} has no tensor {min(missing)!r}. Delete {self.root} and write again.")

    def __str__(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._shapes

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of an episode's tensor, (T, ...), without touching it."""
        self._require(key)
        return self._shapes[key]

    def __getitem__(self, key: str) -> Tensor:
        self._require(key)
        return self._files[self._shard[key]].get_tensor(key)

    def read(self, places: Places) -> Tensor:
        """A copy of these rows, as many of each episode: (N, T, ...). Only their bytes are read."""
        first, rows = places[0]
        read = self[first].new_empty(len(places), len(rows), *self.shape(first)[1:])
        for number, (key, rows) in enumerate(places):
            read[number] = self[key][rows.start : rows.stop : rows.step]
        return read

    def _require(self, key: str) -> None:
        if key not in self._shapes:
            raise DataError(f"{self.root} holds no episode {key!r}; it has {len(self.keys)}, the first {self.keys[:3]}")

    @classmethod
    def write(
        cls, root: Path | str, items: Iterable[Item], meta: dict[str, Any], shard_bytes: int = SHARD
    ) -> TensorStore:
        """Write ``items`` in order and open the result. Floating point is stored as bfloat16, integers as they are.

        A value may be a function without arguments: it is called only for an episode that is not in a finished
        shard, so that a run that was killed continues instead of encoding everything again. The index comes last;
        a store with an index is complete, and writing it again does nothing.

        Raises:
            DataError: a key comes twice, or ``root`` holds a store with another ``meta``.
        """
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        if (root / INDEX).is_file():
            store = cls(root)
            _require_meta(root, store.meta, meta)
            return store
        finished, shards = finished_shards(root, meta)
        seen: set[str] = set()
        pending: dict[str, Tensor] = {}
        for key, value in items:
            if key in seen:
                raise DataError(f"episode {key!r} comes twice for the store {root}; ids must be unique")
            seen.add(key)
            if key in finished:
                continue
            pending[key] = _storable(value() if callable(value) else value)
            if sum(tensor.nbytes for tensor in pending.values()) >= shard_bytes:
                shards.append(_save(root, len(shards), pending, meta))
                pending = {}
        if pending:
            shards.append(_save(root, len(shards), pending, meta))
        _write_index(root, shards, seen, meta)
        return cls(root)


def _storable(value: Tensor | np.ndarray) -> Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    return (tensor.bfloat16() if tensor.is_floating_point() else tensor).contiguous()


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} can't be read ({error}). Delete this shard and {INDEX}, then write again.") from None


def _save(root: Path, number: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    path = root / f"shard-{number:05d}.safetensors"
    partial = path.with_suffix(".partial")
    # A safetensors file sorts its tensors, hence the order of the episodes beside them; and it shuffles the entries of
    # its metadata, hence a single one: the same latents are the same bytes.
    write_tensors(tensors, partial, {HEADER: json.dumps({"meta": meta, "order": [*tensors]}, sort_keys=True)})
    os.replace(partial, path)
    return path


def finished_shards(root: Path, meta: dict[str, Any]) -> tuple[set[str], list[Path]]:
    """Keys and paths of the shards that were written so far, by an interrupted run for instance.

    Raises:
        DataError: they are of a store with another ``meta``.
    """
    shards = sorted(root.glob("shard-*.safetensors"))
    keys: set[str] = set()
    for path in shards:
        header = json.loads(_open(path).metadata()[HEADER])
        _require_meta(root, header["meta"], meta)
        keys.update(header["order"])
    return keys, shards


def _require_meta(root: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps(here))
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            raise DataError(
                f"{root} holds tensors of something else: meta {name!r} is {there.get(name)!r} there and "
                f"{wanted.get(name)!r} here. Delete it, or write to another folder."
            )


def _write_index(root: Path, shards: list[Path], keys: set[str], meta: dict[str, Any]) -> None:
    rows = []
    for path, file in ((path, _open(path)) for path in shards):
        for key in json.loads(file.metadata()[HEADER])["order"]:
            tensor = file.get_tensor(key)
            rows.append({"key": key, "shard": path.name, "shape": list(tensor.shape), "bytes": tensor.nbytes})
    if extra := {row["key"] for row in rows} - keys:
        raise DataError(f"{root} holds {min(extra)!r}, which is not among the episodes to write. Delete the folder.")
    schema = pa.schema(
        {"key": pa.string(), "shard": pa.string(), "shape": pa.list_(pa.int64()), "bytes": pa.int64()},
        metadata={HEADER: json.dumps(meta)},
    )
    partial = root / f"{INDEX}.partial"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)
    os.replace(partial, root / INDEX)
