"""Finished stages at an address that machines share: looked up by their keys, and checked when they arrive.

``records/<kind>-<key>.json`` is the record of a stage, written last; ``objects/`` has the content of its files, each
under its own SHA-256, so that equal ones are there once and nothing that is there ever changes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rslwm.run.stage import Stage, StageRecord, Sum
from rslwm.serialisation import ConfigError
from rslwm.storage import Store, confined, is_uri, side_by_side
from rslwm.types import DataError, Progress

FORMAT = "rslwm-cache.json"
VERSION = {"version": 1}
MB = 2**20


def address(place: str) -> str:
    """A cache's address in a form that means the same to every process: folders are absolute."""
    return place if is_uri(place) or not place else str(Path(place).expanduser().absolute())


class Cache:
    """The cache at an address."""

    def __init__(self, uri: str) -> None:
        self.store = Store(uri)

    def check(self) -> None:
        """Raises :class:`ConfigError`: it can't be reached, holds something else, or isn't there and can't be made."""
        try:
            found = self.store.read(FORMAT)
            if found is None:
                self.store.write(FORMAT, json.dumps(VERSION).encode())
                found = self.store.read(FORMAT)
        except DataError as error:
            raise ConfigError(f"--cache {self.store.uri}: {error} Or run without --cache.") from None
        if found != json.dumps(VERSION).encode():
            where = self.store.where(FORMAT)
            raise ConfigError(f"--cache: {where} isn't of a cache that this version reads. Name another folder.")

    def fetch(self, stage: Stage[Any], folder: Path, progress: Progress) -> StageRecord | None:
        """Download a stage's files into a folder, less those that are in it already, and give the record to be written
        beside them; None if the cache hasn't got the stage. Raises :class:`DataError`: it is there, and broken."""
        name = _record(stage)
        if (text := self.store.read(name)) is None:
            return None
        record = self._parsed(text, stage, name)
        assert record.files is not None
        sizes = {file: known.bytes for file, known in record.files.items()}
        total = sum(sizes.values()) // MB
        known = record.files
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path.relative_to(folder).as_posix() not in known:  # of an attempt at what was there before
                path.unlink()

        def get(file: str) -> None:
            self._get(known[file], folder / file)

        side_by_side(get, sizes, lambda done: progress(done // MB, total, "MB fetched"))
        return replace(record, label=stage.label, fetched=self.store.uri)

    def _parsed(self, text: bytes, stage: Stage[Any], name: str) -> StageRecord:
        where = self.store.where(name)
        try:
            record = StageRecord.parse(text)
        except ValueError as error:
            raise DataError(f"{where} is no record of a stage ({error})") from None
        if (record.kind, record.key, record.version) != (stage.kind, stage.key, stage.edition) or record.files is None:
            raise DataError(f"{where} is the record of something else")
        if wrong := [file for file, known in record.files.items() if not (confined(file) and _sound(known))]:
            raise DataError(f"{where} lists a file {wrong[0]!r}, which no stage leaves")
        return record

    def _get(self, known: Sum, file: Path) -> None:
        name = _object(known.sha256)
        if file.is_file() and Sum.of(file) == known:  # of an attempt that was killed
            return
        if (size := self.store.size(name)) != known.bytes:  # asked first: a record bounds what is downloaded
            there = "is missing" if size is None else f"has {size:,} of {known.bytes:,} bytes"
            raise DataError(f"{self.store.where(name)} {there}")
        self.store.get(name, file)
        if Sum.of(file) != known:
            raise DataError(f"{self.store.where(name)} is damaged: it isn't what its SHA-256 says")

    def push(
        self, stage: Stage[Any], record: StageRecord, folder: Path, progress: Progress, anew: bool = False
    ) -> None:
        """Upload a finished stage, its record last. Objects that are there in full length are kept, unless ``anew``.
        Raises :class:`DataError`: it can't be written."""
        assert record.files is not None
        files = {known.sha256: (file, known.bytes) for file, known in record.files.items()}
        sizes = {name: size for name, (_, size) in files.items()}
        total = sum(sizes.values()) // MB

        def put(name: str) -> None:
            if anew or self.store.size(_object(name)) != sizes[name]:
                self.store.put(folder / files[name][0], _object(name))

        side_by_side(put, sizes, lambda done: progress(done // MB, total, "MB pushed to the cache"))
        self.store.write(_record(stage), record.text().encode())


def _record(stage: Stage[Any]) -> str:
    return f"records/{stage.kind}-{stage.key}.json"


def _object(digest: str) -> str:
    return f"objects/{digest[:2]}/{digest}"


def _sound(known: Sum) -> bool:
    return isinstance(known.bytes, int) and len(known.sha256) == 64 and {*known.sha256} <= {*"0123456789abcdef"}
